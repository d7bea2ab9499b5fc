"""What it takes to run the pipeline on Kubernetes."""

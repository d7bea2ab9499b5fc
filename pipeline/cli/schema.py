"""`schema`: what the messages look like, for other programs."""

from typing import Annotated

import typer

from pipeline.cli.options import Options

__all__ = ["schema"]


def schema(
    context: typer.Context,
    *,
    asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="An AsyncAPI 3 document instead.")
    ] = False,
) -> None:
    """Print the JSON Schema of every message in and out."""
    import json
    from importlib.metadata import version

    from schemas import document

    if asyncapi:
        settings = Options.of(context).settings()
        sources = [name for name in settings.kafka.topics if not name.startswith("^")]
        written = settings.topics.model_dump()
        out = {name: written[name] for name in document.OUT}
        found = document.asyncapi(version("klaviyo-pipeline"), sources, out)
    else:
        found = document.json_schema()
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False))

"""The keys in secrets.key, as what seals and opens."""

from cryptography.fernet import Fernet, MultiFernet

from pipeline.errors import SettingsError

__all__ = ["seal"]


def seal(keys: str) -> MultiFernet:
    """Read Fernet keys with commas between them: the first seals, all open.

    Raises `SettingsError` when one is none.
    """
    try:
        return MultiFernet([Fernet(key.strip()) for key in keys.split(",")])
    except (ValueError, TypeError):
        raise SettingsError(
            "secrets.key is no Fernet key: make one with `python -c 'from "
            "cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'`."
        ) from None

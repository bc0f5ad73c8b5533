"""What ends the demo."""


class DemoFailed(Exception):
    """The story did not go as it should: a sentence for people."""


def require(what: str, found: object, expected: object) -> None:
    """Raises DemoFailed unless the two are equal."""
    if found != expected:
        raise DemoFailed(f"{what}: expected {expected}, found {found}.")

"""What the service answers when it refuses: an HTTP status, a Dataverse code and a message."""


class DataverseError(Exception):
    """A request that is refused.

    Args:
        status: the HTTP status.
        code: the Dataverse error code, as hexadecimal text.
        message: what the service says.
        headers: further response headers, such as Retry-After.
    """

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


def not_found(table: str, key: str) -> DataverseError:
    """The row is not there."""
    return DataverseError(404, "0x80040217", f"Entity '{table}' With Id = {key} Does Not Exist")


def key_not_found(table: str) -> DataverseError:
    """No row has these values in the columns of an alternate key."""
    text = f"A record with the specified key values does not exist in {table} entity"
    return DataverseError(404, "0x80060891", text)


def duplicate_key() -> DataverseError:
    """A row with this primary key is there already."""
    return DataverseError(412, "0x80040237", "A record with matching key values already exists.")


def duplicate_alternate_key(name: str, columns: str) -> DataverseError:
    """A row with these values in an alternate key is there already."""
    return DataverseError(
        412,
        "0x80060892",
        f"Entity Key {name} violated. A record with the same value for {columns} already exists. "
        "A duplicate record cannot be created. Select one or more unique values and try again.",
    )


def version_mismatch() -> DataverseError:
    """If-Match names another version than the row has."""
    text = "The version of the existing record doesn't match the RowVersion property provided."
    return DataverseError(412, "0x80060882", text)


def query_error(message: str, status: int = 400) -> DataverseError:
    """The address or the query options cannot be understood."""
    return DataverseError(status, "0x80060888", message)


def unknown_segment(name: str) -> DataverseError:
    """There is no entity set, function or action of that name."""
    return DataverseError(404, "0x8006088a", f"Resource not found for the segment '{name}'.")


def payload_error(message: str) -> DataverseError:
    """The body names something undeclared, or a value has the wrong JSON type."""
    return DataverseError(400, "0x80048d19", f"Error identified in Payload provided by the user : {message}")


def invalid(message: str) -> DataverseError:
    """A value is refused for what it says."""
    return DataverseError(400, "0x80040203", message)

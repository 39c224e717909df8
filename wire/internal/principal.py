"""A client's principal as a broker forwards it in an Envelope (KIP-590), preceded by its version (int16)."""

from kpybroker.wire.schema import Message, message


@message(versions="0", flexible="0+")
class DefaultPrincipalData(Message):
    """A principal: a type such as "User", and a name."""

    type: str
    name: str
    token_authenticated: bool

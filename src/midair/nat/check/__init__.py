"""What the NAT between here and a server does, found out by asking that server."""

__all__: list[str] = []

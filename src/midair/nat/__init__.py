"""What a NAT does, and how it is asked for a port."""

__all__: list[str] = []

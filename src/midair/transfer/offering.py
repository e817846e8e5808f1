"""Takes in an offer record by record, and refuses it as soon as something in it is wrong. Pure."""

from __future__ import annotations

from midair.errors import IncompatibleError, RemoteProtocolError
from midair.transfer import wire
from midair.transfer.manifest import Manifest, ManifestBuilder, decode_entries
from midair.transfer.names import UnacceptableName, check, escape

__all__ = ["OfferReader"]


class OfferReader:
    """One Announce, then MANIFEST records until the manifest is whole, then nothing more."""

    def __init__(self) -> None:
        self._announced: wire.Announce | None = None
        self._builder: ManifestBuilder | None = None

    def take_announce(self, message: wire.Announce) -> wire.StreamOffer | None:
        """The whole offer, if it is one of a stream. Raises: IncompatibleError, RemoteProtocolError."""
        if message.version != wire.VERSION:
            raise IncompatibleError(
                f"the sender speaks version {message.version} of the transfer, we speak {wire.VERSION}",
                hint="Use the same version of midair on both sides.",
            )
        if self._announced is not None:
            raise RemoteProtocolError("the sender made two offers")
        self._announced = message
        if message.stream is None:
            self._builder = ManifestBuilder()
        else:
            _check_stream(message, message.stream)
        return message.stream

    @property
    def hashed(self) -> bool:
        """Whether the sender wants files to be hashed as they cross."""
        return self._announced is None or self._announced.hashed

    def take_manifest(self, payload: memoryview) -> Manifest | None:
        """The manifest, once it is whole. Raises: RemoteProtocolError."""
        announced, builder = self._announced, self._builder
        if announced is None or builder is None:
            raise RemoteProtocolError("the sender sent a list of files at the wrong time")
        try:
            builder.add_all(decode_entries(payload))
            if len(builder) < announced.entries:
                return None
            manifest = builder.finish()
        except (UnacceptableName, ValueError) as error:
            raise RemoteProtocolError(f"the offer is refused: {error}") from error
        if (len(manifest), manifest.total, manifest.id) != (announced.entries, announced.total, announced.manifest_id):
            raise RemoteProtocolError("the sender's list of files is not the one it announced")
        self._builder = None
        return manifest


def _check_stream(message: wire.Announce, stream: wire.StreamOffer) -> None:
    if message.entries != 1 or message.total > (wire.MAX_TEXT_BYTES if stream.kind == "text" else 0):
        raise RemoteProtocolError("the sender's stream is not what it can be")
    try:
        if len(check(stream.name)) != 1:
            raise UnacceptableName(f"{escape(stream.name)} names a folder, too")
    except UnacceptableName as error:
        raise RemoteProtocolError(f"the offer is refused: {error}") from error

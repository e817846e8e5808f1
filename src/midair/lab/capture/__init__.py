"""What passed where in a lab's network: capture files, and the story they tell."""

from midair.lab.capture.pcapng import CaptureWriter, Record, read_capture
from midair.lab.capture.story import syn_story

__all__ = ["CaptureWriter", "Record", "read_capture", "syn_story"]

"""What tests of the Train pane share: the name of the run that is watched, and looks at what is shown."""

from __future__ import annotations

from textual.pilot import Pilot

from tests.tui.scene import screen, settled

RUN = "tiny-sample-1"


def shows(pilot: Pilot[None], *texts: str) -> bool:
    """Tell whether all these texts are on the screen."""
    told = screen(pilot)
    return all(text in told for text in texts)


async def focus(pilot: Pilot[None], selector: str) -> None:
    """Put the focus on a part of the pane."""
    pilot.app.query_one(selector).focus()
    await settled(pilot)

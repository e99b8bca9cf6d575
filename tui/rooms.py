"""The five rooms of the app, made when they are first asked for, and the keys that work in all of them."""

from __future__ import annotations

from textual.binding import Binding

from tui.panes.pane import Pane

PANES = (("train", "Train"), ("corpus", "Corpus"), ("presets", "Presets"), ("chat", "Chat"), ("runs", "Runs"))
KEYS: tuple[Binding, ...] = (
    *(
        Binding(
            f"{number},f{number + 1}",
            f"open_pane('{name}')",
            title,
            show=False,
            id=f"app.{name}",
            tooltip=f"Go to {title}",
        )
        for number, (name, title) in enumerate(PANES, start=1)
    ),
    Binding(
        "question_mark",
        "explain",
        "Explain",
        id="app.explain",
        tooltip="Explain what has the focus; Enter reads on",
    ),
    Binding("f1", "help", "Help", id="app.help", tooltip="What this pane is for, all its keys, and all topics"),
    Binding("q", "quit", "Quit", id="app.quit", tooltip="Leave; training goes on"),
    Binding("ctrl+q,ctrl+c", "quit", "Quit", show=False, id="app.leave", tooltip="Leave; training goes on"),
    Binding("escape", "leave_field", "Leave field", show=False, id="app.escape", tooltip="Leave a text field"),
)


def make_pane(name: str) -> Pane:
    """Return a new pane; its module is imported only now."""
    if name == "corpus":
        from tui.panes.corpus import CorpusPane

        return CorpusPane(id=name)
    if name == "presets":
        from tui.panes.presets import PresetsPane

        return PresetsPane(id=name)
    if name == "chat":
        from tui.panes.chat import ChatPane

        return ChatPane(id=name)
    assert name == "runs", name
    from tui.panes.runs import RunsPane

    return RunsPane(id=name)

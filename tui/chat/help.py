"""What F1 says of the Chat pane."""

HELP = """
Talk to a model that you trained. It computes in a process of its own; training keeps its memory and its processor.

Write below and press **Enter**. **Ctrl+J** starts a new line, the **arrow up** brings back what you sent before,
**Page Up** and **Page Down** scroll. **Esc** stops an answer; when there is none, it leaves the field.

| outside the field | inside it too | |
|---|---|---|
| i, Enter | | write |
| r | Ctrl+R | answer again |
| e | Ctrl+L | change your last message |
| n | Ctrl+N | new conversation (the old one is kept) |
| o | Ctrl+O | open, rename or delete a conversation |
| m | Ctrl+G | choose the model |
| u | F7 | load the newer checkpoint of this run |
| s | Ctrl+T | settings |
| y | Ctrl+S | copy the last answer |

**Conversation** or **completion**: a model trained on conversations answers; any model can go on with a text.
**Temperature** is how adventurous it is; *focused*, *balanced* and *creative* set all of the settings at once.
"""

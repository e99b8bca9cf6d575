"""What every setting, figure and notice means: one Markdown file a topic, read by the app and by `minigpt learn`.

found = topic("training.learning_rate")
print(found.sentence)
print(found.markdown({"loss": "1.43"}))      # the paragraphs of "In your run" whose figures are known

A file begins with `# Title` and one paragraph, the sentence that `?` shows (for a setting it is config.py's meaning,
and so left out); `<!-- also: other, names -->` may stand under the title. The sections are those of SECTIONS. A link
is `[text](topic)`. A figure of the run stands in braces, in the section "In your run" only: its name is one of
minigpt.learn.values.PLACEHOLDERS or a setting's key, and a paragraph with a figure that is not known is left out.
"""

from __future__ import annotations

from minigpt.learn.shelf import KINDS, SECTIONS, Topic, contents, find, names, of_kind, sentence, topic

__all__ = ["KINDS", "SECTIONS", "Topic", "contents", "find", "names", "of_kind", "sentence", "topic"]

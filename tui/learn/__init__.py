"""Explanations on the screen: the sentence of what has the focus, the whole topic, the contents."""

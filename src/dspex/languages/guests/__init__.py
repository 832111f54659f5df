"""The programs that run inside, one for each language, each a real file in its own language.

They import the standard library and each other, never the rest of dspex: a guest has none of it.
"""

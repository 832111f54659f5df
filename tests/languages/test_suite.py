"""Every language that comes with dspex passes the suite that a stranger's must."""

import dataclasses

import languagewords as words
from dspex.testing import LanguageSuite


class TestPython(LanguageSuite):
    language = "python"
    words = words.PYTHON


class TestJavaScript(LanguageSuite):
    language = "javascript"
    words = words.JAVASCRIPT
    lacks = frozenset({"floats"})


class TestTypeScript(LanguageSuite):
    language = "typescript"
    words = dataclasses.replace(words.JAVASCRIPT, number="const n: number = 42\nn")
    lacks = frozenset({"floats"})

"""A language that does not come with dspex: the example's package, found by its entry point, passes the suite."""

import pathlib
import sys

import pytest

from dspex import CodeExecutor, languages
from dspex.errors import UnknownLanguageError
from dspex.testing import LanguageSuite, Words

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "languages" / "perl"
WORDS = Words(
    add="$x + $y",
    echo="$x",
    out_and_err='print "to out\\n"; print STDERR "to err\\n"; undef',
    number="42",
    raises='sub f {\n    # here\n    die "wrong"\n}\nf()',
    raised="die",
    unreadable="$x = 1;\n$x = = 2;",
    endless="1 while 1",
    greedy='push @all, "x" x 1048576 while 1',
    flood='print "x" x 1000, "\\n" while 1',
    text_of='"x" x $n',
    write='open my $f, ">", "out.txt"; print $f "written"; close $f; 1',
    read='open my $f, "<:encoding(UTF-8)", "data.txt"; my $t = <$f>; $t',
    fill_disk='open my $f, ">", "big" or die $!; (print $f "x" x 1048576 or die $!) for 1 .. 32; close $f or die $!',
    leave_file='open my $f, ">", "left.txt"; close $f; 1',
    found='-e "left.txt" ? 1 == 1 : 1 == 0',
    exit_zero="exit 0",
    define=("use POSIX (); $a = 2", "sub f { $_[0] * $a }", "package C { sub x { 19 } }", "use List::Util qw(sum)"),
    use="f(C->x) + sum(1, 3) * POSIX::floor(1.5)",
    fail='die "no"',
    call="double(21)",
    call_failing="eval { refuse(1) }; $@",
)


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory):
    """The package with the entry point that its installation would have left."""
    directory = tmp_path_factory.mktemp("installed")
    information = directory / "dspex_perl-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: dspex-perl\nVersion: 0.1.0\n")
    (information / "entry_points.txt").write_text("[dspex.languages]\nperl = dspex_perl:Perl\n")
    sys.path[:0] = [str(directory), str(EXAMPLE)]
    yield
    del sys.path[:2]


class TestPerl(LanguageSuite):
    language = "perl"
    words = WORDS
    lacks = frozenset(
        (*("await", "big_integers", "bytes", "columns", "displays", "maps_of_any", "parallel_tools", "special_floats"),)
    )


def test_it_is_known_by_name():
    """Beside those that come with dspex, with its runtime and its options checked."""
    assert "perl" in languages.names()
    assert ("perl", "perl") in {(name, found.runtime) for name, found in languages.survey()}
    with pytest.raises(UnknownLanguageError, match="'perl'"):
        CodeExecutor("parl")


@pytest.mark.parametrize(
    ("code", "kind", "line"),
    [
        ('my $x = 1;\ndie "syntax error in input\\n"', "runtime", None),
        ("$x = 1;\n$x = = 2;", "syntax", 2),
        ("use strict;\n$undeclared = 1;", "syntax", 2),
        ("1;\nuse No::Such::Module;", "runtime", 2),
        ('open(my $f, ">", "/dev/full"); print $f "x"; close $f;\ndie "unrelated"', "runtime", 2),
        ('open(my $f, ">", "/dev/full"); print $f "x";\nclose $f or die "full: $!"', "disk_limit", 2),
        ('my $total = 1;\nsub add { $total += $_[0] }\nadd(2);\ndie "no" if $total != 3;\ndie "right"', "runtime", 5),
        ('package Other;\nour $name = 5;\npackage main;\ndie "right" if $Other::name == 5', "runtime", 4),
    ],
)
def test_errors_are_told_by_what_happened(code, kind, line):
    """Not by words in their message, nor by what failed before."""
    with CodeExecutor("perl") as executor:
        error = executor.execute(code).error
        assert (error.kind, error.line) == (kind, line), error

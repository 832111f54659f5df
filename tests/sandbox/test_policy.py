"""Security policies: deny by default, what may be written, what is refused, and the files they are kept in."""

import json
import os
import pickle
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex._sandbox.limits import MIB, ResourceLimits
from dspex._sandbox.network import Host
from dspex._sandbox.policy import SecurityPolicy, load_policy_file, presets
from dspex._sandbox.rootfs import Mount
from dspex.errors import LimitsError, PolicyError

PART = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/:~"), min_size=1).filter(
    lambda part: part not in (".", "..")
)
PATHS = st.lists(PART, min_size=1).map(lambda parts: "/data/" + "/".join(parts))
MOVED = st.tuples(PATHS, PATHS).map(":".join)
DOTTED = st.lists(st.from_regex(r"[^\s.\x00\ud800-\udfff]+", fullmatch=True), min_size=1, max_size=3).map(".".join)
POLICIES = st.builds(
    SecurityPolicy,
    readable=st.lists(PATHS | MOVED, max_size=3),
    writable=st.lists(PATHS | MOVED, max_size=3),
    network=st.lists(
        st.sampled_from(["example.org", "8.8.8.8:1", "[2606:4700::1]:65535", Host("*.db_1:5432", private=True)]),
        max_size=2,
    ),
    environment=st.lists(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True), max_size=2),
    subprocesses=st.booleans(),
    packages=st.lists(st.sampled_from(["*", "numpy", "_yaml", "ruamel.yaml", "scikit-learn"]), max_size=3),
    forbidden_modules=st.lists(DOTTED, max_size=2),
    forbidden_calls=st.lists(DOTTED, max_size=2),
)


@given(POLICIES)
def test_a_policy_comes_back_from_every_form(policy):
    """A policy survives TOML, JSON, its dictionary, pickling and an empty replace."""
    for again in (
        SecurityPolicy.from_toml(policy.to_toml()),
        SecurityPolicy.from_json(policy.to_json()),
        SecurityPolicy.from_dict(policy.to_dict()),
        pickle.loads(pickle.dumps(policy)),
        policy.replace(),
    ):
        assert again == policy
        assert hash(again) == hash(policy)


@given(POLICIES)
def test_every_policy_explains_every_field(policy):
    """The explanation has one line for each field, and names every entry."""
    text = policy.explain()
    for entry in (*policy.readable, *policy.writable, *policy.environment, *policy.forbidden_calls):
        assert entry in text
    assert text.count("May ") >= 5


@given(wall=st.floats(min_value=0.001, max_value=604_800), memory=st.integers(min_value=16 * MIB, max_value=1 << 44))
def test_limits_come_back_from_a_policy_file(tmp_path_factory, wall, memory):
    """A file written with limits gives the same policy and the same limits again, in both formats."""
    limits = ResourceLimits(wall=wall, memory=memory)
    directory = tmp_path_factory.getbasetemp()
    for suffix, text in (
        (".toml", SecurityPolicy.strict().to_toml(limits)),
        (".json", SecurityPolicy.strict().to_json(limits)),
    ):
        path = directory / f"both{suffix}"
        path.write_text(text, encoding="utf-8")
        assert load_policy_file(path) == (SecurityPolicy.strict(), limits)


def test_nothing_is_allowed_by_default():
    """A policy of which nothing is said allows nothing."""
    assert not any(SecurityPolicy().to_dict().values())
    assert SecurityPolicy.default() == SecurityPolicy()


@given(st.lists(st.sampled_from("cab"), max_size=5))
def test_any_iterable_becomes_a_tuple(names):
    """Lists keep their order; sets are put in order, so that equal policies are equal."""
    assert SecurityPolicy(packages=names).packages == tuple(names)
    assert SecurityPolicy(packages=set(names)) == SecurityPolicy(packages=frozenset(reversed(names)))


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("readable", "/data", "readable"),
        ("readable", 7, "readable"),
        ("readable", [7], r"readable\[0\]"),
        ("readable", ["/data", ""], r"readable\[1\]"),
        ("readable", ["data"], r"readable\[0\]"),
        ("readable", ["/data:input:/x/../y"], r"readable\[0\]"),
        ("readable", ["/data/../etc"], r"readable\[0\]"),
        ("readable", ["/data\0"], r"readable\[0\]"),
        ("readable", ["/data\udcff"], r"readable\[0\]"),
        ("readable", [b"/data"], r"readable\[0\]"),
        ("readable", ["~nobody-of-that-name/x"], r"readable\[0\]"),
        ("network", "example.org:443", "network"),
        ("network", {"example.org": 443}, "network"),
        ("network", [443], r"network\[0\]"),
        ("network", [{"host": "example.org", "ports": 443}], r"network\[0\]"),
        ("network", [{"private": True}], r"network\[0\]"),
        ("network", ["example.org", "10.0.0.1:1"], r"network\[1\]"),
        ("network", [f"example.org:{port}" for port in range(1000, 1064)], "network"),
        ("secrets", ["KEY"], "secrets"),
        ("secrets", {"KEY": "value"}, r"secrets\['KEY'\]"),
        ("secrets", {"KEY": ("longer value", ["example.org"])}, r"secrets\['KEY'\]"),
        ("secrets", {"KEY": ("long-enough", "example.org")}, r"secrets\['KEY'\]"),
        ("secrets", {"KEY": ("long-enough", ["example.org"])}, r"secrets\['KEY'\]"),
        ("secrets", {"NOT_SET_ANYWHERE": {"hosts": ["example.org"]}}, r"secrets\['NOT_SET_ANYWHERE'\]"),
        ("secrets", {"KEY": {"hosts": ["example.org"], "value": "long-enough"}}, r"secrets\['KEY'\]"),
        ("secrets_in_body", 1, "secrets_in_body"),
        ("network", ["example.org:0"], r"network\[0\]"),
        ("network", ["example.org:65536"], r"network\[0\]"),
        ("network", ["http://example.org:80"], r"network\[0\]"),
        ("environment", ["A=B"], r"environment\[0\]"),
        ("environment", None, "environment"),
        ("subprocesses", 1, "subprocesses"),
        ("subprocesses", "no", "subprocesses"),
        ("packages", ["../evil"], r"packages\[0\]"),
        ("packages", ["num*"], r"packages\[0\]"),
        ("forbidden_modules", ["os."], r"forbidden_modules\[0\]"),
        ("forbidden_calls", ["eval()", "os system"], r"forbidden_calls\[1\]"),
    ],
)
def test_a_wrong_entry_is_refused_by_its_place(field, value, place):
    """What cannot be in a policy is refused when the policy is made, with the field and the entry's place."""
    with pytest.raises(PolicyError, match=rf"^{place}: "):
        SecurityPolicy(**{field: value})


@pytest.mark.parametrize("field", ["readable", "writable"])
@pytest.mark.parametrize(
    "target", ["/", "//", "/proc", "/proc/1", "/dev", "/dev/shm", "/sys", "/run", "/run/sandbox/work", "/tmp", "/etc"]
)
def test_the_engines_own_places_are_refused(field, target):
    """Nothing of the host may be shown where the guest has the engine's own, named directly or as a target."""
    for entry in (target, f"/usr:{target}", target.rstrip("/") + "/."):
        with pytest.raises(PolicyError, match=rf"^{field}\[0\]: "):
            SecurityPolicy(**{field: [entry]})


def test_places_that_merely_sound_like_the_engines_are_allowed(tmp_path):
    """A prefix of a name is not a directory above it."""
    entries = [f"{tmp_path}:{target}" for target in ("/processed", "/device", "/run/sandbox2", "/tmpfiles")]
    SecurityPolicy(readable=entries).check()


@pytest.mark.parametrize("beyond", ["/", "/proc", "/proc/self", "/dev", "/dev/null", "/sys"])
def test_no_link_leads_to_more_than_files(tmp_path, beyond):
    """A symbolic link to the whole host, its processes or its devices is found out."""
    link = tmp_path / "link"
    link.symlink_to(beyond)
    with pytest.raises(PolicyError, match=r"^readable\[0\]: .*gives the guest more than files"):
        SecurityPolicy(readable=[f"{link}:/data"]).check()


def test_a_pipe_of_the_host_is_refused(tmp_path):
    """What is neither file nor directory could reach a process of the host."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PolicyError, match=r"^writable\[0\]: .*neither a file nor a directory"):
        SecurityPolicy(writable=[f"{tmp_path}/pipe:/pipe"]).check()


def test_a_missing_path_is_named(tmp_path):
    """A policy may name what is not there yet; holding it against the host says what is missing."""
    policy = SecurityPolicy(readable=[tmp_path / "there:/data", f"{tmp_path}/gone:/gone"])
    (tmp_path / "there").mkdir()
    with pytest.raises(PolicyError, match=rf"^readable\[1\]: {tmp_path}/gone .*No such file or directory"):
        policy.check()


def test_mounts_are_resolved_and_normal(tmp_path, monkeypatch):
    """Sources have their links and ~ resolved, targets stay as written, writable wins over readable."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    policy = SecurityPolicy(readable=["~/link:/b", "/usr/bin/", "~/real:/a"], writable=["~/real:/a"])
    real = os.path.realpath(tmp_path / "real")
    assert policy.mounts() == (
        Mount(real, "/a", True),
        Mount(real, "/b", False),
        Mount(os.path.realpath("/usr/bin"), "/usr/bin", False),
    )


def test_two_sources_cannot_share_a_target(tmp_path):
    """One place inside shows one thing."""
    with pytest.raises(PolicyError, match=r"^writable\[0\]: /data already shows"):
        SecurityPolicy(readable=["/usr:/data"], writable=[f"{tmp_path}:/data"]).check()


SECRETIVE = {"network": ["api.example.com:443"], "secrets": {"API_KEY": ("sk-0123456789", ["api.example.com"])}}


def test_no_text_of_a_policy_shows_a_secret(monkeypatch):
    """The value is in none of its forms; a policy file names the hosts, and takes the value from the environment."""
    policy = SecurityPolicy(**SECRETIVE)
    shown = (repr(policy), str(policy), policy.explain(), policy.to_toml(), policy.to_json(), str(policy.to_dict()))
    assert not any("sk-0123456789" in text for text in shown)
    assert "API_KEY for api.example.com" in policy.explain()
    monkeypatch.delenv("API_KEY", raising=False)
    with pytest.raises(PolicyError, match="set the variable API_KEY"):
        SecurityPolicy.from_toml(policy.to_toml())
    monkeypatch.setenv("API_KEY", "sk-0123456789")
    assert SecurityPolicy.from_toml(policy.to_toml()) == SecurityPolicy.from_json(policy.to_json()) == policy
    assert policy.replace(subprocesses=True).secrets == policy.secrets


@pytest.mark.parametrize(
    "wrong", [("sk-0123456789", "api.example.com"), ("sk-0123456789",), "sk-0123456789", ("sk-0123456789\n", ["a"])]
)
def test_no_error_of_a_policy_shows_a_secret(wrong):
    """What is wrong with a secret is said without it."""
    with pytest.raises(PolicyError) as caught:
        SecurityPolicy(network=["api.example.com"], secrets={"API_KEY": wrong})
    assert "sk-0123456789" not in str(caught.value)


def test_a_secret_is_not_handed_over_as_a_variable():
    """A name cannot be both: the environment would give the guest the value itself."""
    with pytest.raises(PolicyError, match=r"^environment\[0\]: API_KEY is one of secrets too"):
        SecurityPolicy(environment=["API_KEY"], **SECRETIVE)


def test_only_the_named_variables_are_handed_over():
    """The guest's environment holds what is named and set, nothing else."""
    policy = SecurityPolicy(environment=["TOKEN", "ABSENT"])
    assert policy.handed_environment({"TOKEN": "t", "SECRET": "s"}) == {"TOKEN": "t"}
    assert SecurityPolicy().handed_environment() == {}


def test_every_preset_holds_on_this_host():
    """Each preset can be made, checked, explained and written; none shows files or allows network."""
    for name, make in presets().items():
        policy = make()
        policy.check()
        assert not any((policy.readable, policy.writable, policy.network, policy.environment)), name
        assert SecurityPolicy.from_toml(policy.to_toml()) == policy
    assert presets()["trusted"]().subprocesses
    assert not presets()["data_science"]().subprocesses
    assert "subprocess" in presets()["strict"]().forbidden_modules


def test_data_science_names_only_what_is_installed():
    """A package that the caller does not have is not in the preset."""
    import importlib.util

    packages = SecurityPolicy.data_science().packages
    assert all(importlib.util.find_spec(name) for name in packages)
    assert "numpy" in packages


# --- Policy files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.toml", b"[policy]\nreadable = [1 2]", "is not TOML: .*line 2"),
        ("p.json", b'{"policy":\n{]}', "is not JSON: .*line 2"),
        ("p.toml", b"[policy]\n# caf\xe9\n", r"is not UTF-8: byte 0xe9 at offset 14 \(line 2\)"),
        ("p.yaml", b"", r"a policy file ends in \.toml or \.json"),
        ("p.toml", b"[policy]\nreadble = []", r"policy\.readble: .*did you mean readable\?"),
        ("p.toml", b"[polcy]\n", r"polcy: .*did you mean policy\?"),
        ("p.toml", b"readable = []\n", "readable: .*belongs into the table policy"),
        ("p.json", b'{"memory": 1}', "memory: .*belongs into the table limits"),
        ("p.toml", b"policy = 3\n", "policy: must be a table"),
        ("p.json", b"[]", "must hold the tables"),
        ("p.json", b'{"policy": {"subprocesses": false, "subprocesses": true}}', "subprocesses: is given twice"),
        ("p.json", b'{"policy": {"readable": ["/a", 3]}}', r"policy\.readable\[1\]: must be text"),
        ("p.json", b"[" * 200_000, "is not JSON"),
        ("p.toml", b"x = " + b"[" * 200_000, "is not TOML"),
        ("p.json", b"9" * 5000, "is not JSON"),
        ("p.json", b'{"policy": {"packages": ["\\ud800"]}}', r"policy\.packages\[0\]"),
    ],
    ids=lambda part: repr(part)[:30],
)
def test_a_bad_policy_file_says_what_and_where(tmp_path, name, content, message):
    """Every fault of a policy file is told with the file, and the line or the field."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PolicyError, match=rf"^{path}: {message}"):
        SecurityPolicy.load(path)


def test_a_bad_limit_in_a_policy_file_is_a_limits_error(tmp_path):
    """A limit out of range is told with the file and the field, as a LimitsError."""
    path = tmp_path / "p.toml"
    path.write_text("[limits]\nmemory = '1MB'\n")
    with pytest.raises(LimitsError, match=rf"^{path}: limits\.memory: '1MB' is out of range"):
        load_policy_file(path)


def test_a_policy_file_that_cannot_be_read_is_named(tmp_path):
    """A missing file and a directory are told as such."""
    with pytest.raises(PolicyError, match=r"gone\.toml: cannot be read: No such file"):
        load_policy_file(tmp_path / "gone.toml")
    (tmp_path / "directory.toml").mkdir()
    with pytest.raises(PolicyError, match=r"directory\.toml: cannot be read: Is a directory"):
        load_policy_file(tmp_path / "directory.toml")


def test_an_empty_policy_file_is_the_default(tmp_path):
    """A missing table means the default."""
    (tmp_path / "empty.toml").write_text("")
    assert load_policy_file(tmp_path / "empty.toml") == (SecurityPolicy(), ResourceLimits())


def test_what_is_written_is_plain_toml_and_json():
    """The files hold the tables that their readers expect, and only those asked for."""
    assert set(tomllib.loads(SecurityPolicy().to_toml())) == {"policy"}
    assert set(json.loads(SecurityPolicy().to_json(ResourceLimits()))) == {"policy", "limits"}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda s: (
            st.lists(s)
            | st.dictionaries(st.sampled_from(["policy", "limits", "readable", "subprocesses", "memory"]), s)
        ),
    )
)
def test_any_json_is_a_policy_or_a_clear_refusal(document):
    """Whatever a JSON file holds, the answer is a policy or one of the two errors."""
    try:
        policy = SecurityPolicy.from_json(json.dumps(document))
    except (PolicyError, LimitsError):
        return
    assert isinstance(policy, SecurityPolicy)

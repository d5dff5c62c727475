"""The codec: JSON as Go reads it, compared with Go's rules one by one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyker.api.codec import Decoder, parse
from pyker.errors import InvalidParameter
from pyker.types.config import ContainerConfig, HostConfig, NetworkingConfig, PortBinding

host_config = Decoder(HostConfig, name="HostConfig", lists=("CapAdd",))
config = Decoder(ContainerConfig, name="Config", lists=("Cmd", "Entrypoint"))
networking = Decoder(NetworkingConfig)


def test_names_match_in_any_case_and_unknown_ones_are_ignored() -> None:
    decoded = host_config.decode(b'{"MEMORY":5,"shmSize":6,"dnsoptions":["a"],"nosuch":{"x":1}}')
    assert (decoded.memory, decoded.shm_size, decoded.dns_options) == (5, 6, ("a",))


def test_null_is_the_zero_value_where_it_is_no_value() -> None:
    decoded = host_config.decode(
        b'{"Memory":null,"NetworkMode":null,"Privileged":null,"LogConfig":null,"RestartPolicy":{"Name":null},'
        b'"ConsoleSize":null,"Binds":null,"PidsLimit":null,"Ulimits":[null],"Dns":["a",null],"Mounts":null}'
    )
    assert (decoded.memory, decoded.network_mode, decoded.privileged) == (0, "", False)
    assert (decoded.log_config, decoded.restart_policy) == (HostConfig().log_config, HostConfig().restart_policy)
    assert (decoded.binds, decoded.pids_limit, decoded.dns, decoded.mounts) == (None, None, ("a", ""), None)
    assert decoded.ulimits is not None
    assert decoded.ulimits[0].name == ""


def test_empty_and_missing_lists_stay_different() -> None:
    assert host_config.decode(b'{"Dns":[]}').dns == ()
    assert host_config.decode(b"{}").dns is None


def test_maps_with_null_values() -> None:
    assert config.decode(b'{"ExposedPorts":{"80/tcp":null,"81/tcp":{}}}').exposed_ports == {"80/tcp": {}, "81/tcp": {}}
    ports = host_config.decode(b'{"PortBindings":{"80/tcp":[{"hostport":"1"}],"81/tcp":null}}').port_bindings
    assert ports == {"80/tcp": (PortBinding(host_port="1"),), "81/tcp": None}
    assert networking.decode(b'{"EndpointsConfig":{"n1":null}}').endpoints_config == {"n1": None}


def test_arrays_of_fixed_length_are_filled_and_cut() -> None:
    assert host_config.decode(b'{"ConsoleSize":[24]}').console_size == (24, 0)
    assert host_config.decode(b'{"ConsoleSize":[24,80,9]}').console_size == (24, 80)


def test_a_string_stands_for_a_list_only_where_docker_lets_it() -> None:
    assert config.decode(b'{"Cmd":"one word","Entrypoint":""}').cmd == ("one word",)
    assert host_config.decode(b'{"CapAdd":"ALL"}').cap_add == ("ALL",)
    with pytest.raises(InvalidParameter, match=r"cannot unmarshal string into Go struct field Config.Env"):
        config.decode(b'{"Env":"A=1"}')


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "EOF"),
        (b"  \n", "EOF"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (b'{"a":', "unexpected EOF"),
        (b'{"Memory":"5"}', "json: cannot unmarshal string into Go struct field HostConfig.Memory of type int64"),
        (b'{"Memory":true}', "json: cannot unmarshal bool into Go struct field HostConfig.Memory of type int64"),
        (b'{"Memory":1.5}', "json: cannot unmarshal number into Go struct field HostConfig.Memory of type int64"),
        (b'{"Privileged":1}', "json: cannot unmarshal number into Go struct field HostConfig.Privileged of type bool"),
        (b"[]", "json: cannot unmarshal array into Go value of type HostConfig"),
        (b'"x"', "json: cannot unmarshal string into Go value of type HostConfig"),
    ],
)
def test_what_go_refuses_is_refused_in_its_words(body: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        host_config.decode(body)
    assert caught.value.message == message


def test_what_follows_the_first_value_is_not_looked_at() -> None:
    assert parse(b'{"a":1} and more') == {"a": 1}
    assert host_config.decode(b"null").memory == 0


def test_deep_nesting_is_refused_not_crashed_on() -> None:
    with pytest.raises(InvalidParameter):
        parse(b"[" * 200_000)


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
_keys = st.sampled_from([*HostConfig.__struct_encode_fields__, "memory", "nosuch"])


@given(st.dictionaries(_keys, _json_values, max_size=6))
def test_any_object_is_decoded_or_refused(value: dict[str, object]) -> None:
    try:
        assert isinstance(host_config.decode(json.dumps(value).encode()), HostConfig)
    except InvalidParameter:
        pass


@given(st.binary(max_size=50))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        host_config.decode(data)
    except InvalidParameter:
        pass

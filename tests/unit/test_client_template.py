"""Go templates as docker's users write them."""

from __future__ import annotations

import pytest

from pyker.client.failure import Failure
from pyker.client.template import Template

VIEW = {
    "Id": "abc",
    "Name": "/c1",
    "State": {"Running": True, "Pid": 42, "ExitCode": 0, "Health": None},
    "Config": {"Env": ["A=1", "B=<2>"], "Labels": {"x": "1", "a.b": "2"}, "Cmd": None, "Empty": []},
    "Mounts": [{"Source": "/a", "RW": True}, {"Source": "/b", "RW": False}],
    "Size": 1.5,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("{{.State.Pid}}", "42"),
        ("{{ .State.Running }}", "true"),
        ("{{json .Config}}", '{"Env":["A=1","B=\\u003c2\\u003e"],"Labels":{"x":"1","a.b":"2"},"Cmd":null,"Empty":[]}'),
        ("{{range .Mounts}}{{.Source}};{{end}}", "/a;/b;"),
        ("{{range $i, $m := .Mounts}}{{$i}}={{$m.Source}} {{end}}", "0=/a 1=/b "),
        ("{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}},{{end}}", "a.b:2,x:1,"),
        ("{{range .Config.Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Mounts}}{{if not .RW}}{{continue}}{{end}}{{.Source}}{{end}}", "/a"),
        ("{{range .Mounts}}{{.Source}}{{break}}{{end}}", "/a"),
        ('{{index .Config.Labels "a.b"}}', "2"),
        ('{{index .Config.Labels "none"}}', ""),
        ("{{(index .Mounts 1).Source}}", "/b"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if eq .State.Pid 1}}a{{else if gt .State.Pid 10}}b{{else}}c{{end}}", "b"),
        ("{{with .State}}{{.Pid}}{{end}}{{with .Config.Cmd}}x{{else}}y{{end}}", "42y"),
        ("{{len .Config.Env}}{{len .Name}}", "23"),
        (
            '{{printf "%s|%5d|%-4s|%q|%v|%t|%%|%x" .Id 7 "ab" "c" .Config.Env true "hi"}}',
            'abc|    7|ab  |"c"|[A=1 B=<2>]|true|%|6869',
        ),
        ('{{join .Config.Env ","}}', "A=1,B=<2>"),
        ('{{index (split .Name "/") 1}}', "c1"),
        ("{{upper .Id}}{{lower .Id}}{{title .Id}}", "ABCabcAbc"),
        ("{{.Config.Labels}}", "map[a.b:2 x:1]"),
        ("{{.Config.Cmd}}", "<no value>"),
        ('{{.State.Pid | printf "%d!"}}', "42!"),
        ("{{$x := .Id}}{{$x}}{{$.Name}}", "abc/c1"),
        ("{{$x := 1}}{{range .Mounts}}{{$x = .Source}}{{end}}{{$x}}", "/b"),
        ("a {{- .Id -}} b", "aabcb"),
        ("{{/* note */}}x", "x"),
        ('{{"a}}b"}}{{`c"d`}}', 'a}}bc"d'),
        ("{{and .Id .Name}}{{or .Config.Cmd .Id}}{{not true}}", "/c1abcfalse"),
        ("{{ne 1 2}}{{lt 1 2}}{{le 2 2}}{{ge 1 2}}", "truetruetruefalse"),
        ("{{.ID}}", "abc"),
        ("{{pad .Id 1 2}}|{{truncate .Id 2}}", " abc  |ab"),
        ("{{println .Id}}", "abc\n"),
        ("{{.Size}}", "1.5"),
        ("{{slice .Id 1}}{{print 1 2}}", "bc1 2"),
        ('{{html "<a&b>"}}{{urlquery "a b/"}}', "&lt;a&amp;b&gt;a+b%2F"),
    ],
)
def test_a_template_renders(text: str, expected: str) -> None:
    assert Template(text).render(VIEW) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{", "unclosed action"),
        ("{{.A", "unclosed action"),
        ("{{nosuch .}}", 'function "nosuch" not defined'),
        ("{{range .Mounts}}x", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{.Nosuch}}", 'map has no entry for key "Nosuch"'),
        ("{{.State.Health.Status}}", "nil pointer"),
        ("{{.Name.Foo}}", "can't evaluate field Foo in type string"),
        ("{{index .Mounts 9}}", "index out of range: 9"),
        ("{{len .State.Pid}}", "error calling len"),
        ("{{(.Id}}", "unclosed left paren"),
        ("{{$undefined}}", "undefined variable"),
        ("{{'}}", "unterminated quoted string"),
        ("{{" + "(" * 500 + "1" + ")" * 500 + "}}", "nested too deeply"),
        ("{{if 1}}" * 500 + "{{end}}" * 500, "nested too deeply"),
        ('{{printf "%999999999d" 1}}', None),
    ],
)
def test_a_bad_template_is_told_and_never_a_traceback(text: str, reason: str | None) -> None:
    if reason is None:
        assert len(Template(text).render(VIEW)) < 100
        return
    with pytest.raises(Failure) as caught:
        Template(text).render(VIEW)
    assert "template parsing error" in caught.value.message and reason in caught.value.message

"""The Vagrantfile says what the table says."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from lab.table import table

TREE = Path(__file__).resolve().parents[2]

# Stands in for Vagrant: notes what the file defines.
RECORDER = r"""
require "json"
class Note
  attr_reader :seen
  def initialize; @seen = {}; end
  def method_missing(name, *arguments, **options, &block)
    key = name.to_s
    return @seen[key.chomp("=")] = arguments[0] if key.end_with?("=")
    if key == "define"
      node = Note.new
      block.call(node)
      (@seen["nodes"] ||= {})[arguments[0]] = node.seen
      return nil
    end
    (@seen["calls"] ||= []) << [key, arguments, options] unless arguments.empty? && options.empty?
    return @seen[key].is_a?(Note) ? @seen[key] : (@seen[key] = Note.new) if arguments.empty?
    block.call(Note.new) if block
    nil
  end
  def respond_to_missing?(*) = true
  def to_json(*all) = @seen.to_json(*all)
end
module Vagrant
  def self.configure(version)
    config = Note.new
    yield config
    puts JSON.generate({"version" => version, "config" => config})
  end
end
load ARGV[0]
"""


def defined(**environment: str) -> dict[str, dict[str, object]]:
    done = subprocess.run(
        ["ruby", "-e", RECORDER, str(TREE / "Vagrantfile")],
        capture_output=True,
        check=True,
        env={**os.environ, **environment},
    )
    nodes = json.loads(done.stdout)["config"]["vm"]["nodes"]
    return {name: node["vm"] for name, node in nodes.items()}


@pytest.mark.requires("vagrant")
def test_every_box_of_the_table_is_defined_with_what_it_promises() -> None:
    nodes = defined()
    assert {name: node["box"] for name, node in nodes.items()} == {box.name: box.box for box in table().boxes}
    for box in table().boxes:
        calls = nodes[box.name]["calls"]
        assert isinstance(calls, list)
        provision = next(options for name, _, options in calls if name == "provision")
        assert provision["env"] == {"PYKER_DRIVER": box.graphdriver, "PYKER_CGROUP": box.cgroup}
        assert (TREE / provision["path"]).exists()


@pytest.mark.requires("vagrant")
def test_a_local_box_takes_the_place_of_one() -> None:
    nodes = defined(PYKER_LAB_BOX_UBUNTU_AUFS="mine/focal")
    assert nodes["ubuntu-aufs"]["box"] == "mine/focal"
    assert nodes["centos"]["box"] == next(box.box for box in table().boxes if box.name == "centos")


@pytest.mark.requires("vagrant")
def test_vagrant_finds_it_valid(tmp_path: Path) -> None:
    done = subprocess.run(
        ["vagrant", "validate", "--ignore-provider"],
        cwd=TREE,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_DOTFILE_PATH": str(tmp_path / "dot")},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_systems_that_the_document_names_are_there() -> None:
    drivers = {(re.sub("[0-9]+s?$", "", box.box.split("/")[-1]), box.graphdriver) for box in table().boxes}
    assert {("centos", "overlay2"), ("ubuntu", "overlay2"), ("ubuntu", "aufs")} <= drivers

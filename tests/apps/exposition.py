# SPDX-License-Identifier: MIT
"""A strict reader of Prometheus' text format 0.0.4: what it takes, any scraper takes.

Stricter than the format: every family has a HELP and a TYPE, counters end in _total and nothing
else does, there are no timestamps and no comments, and histograms are whole.
"""
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
HELP = re.compile(rf"# HELP ({NAME}) (\S.*)")
TYPE = re.compile(rf"# TYPE ({NAME}) (counter|gauge|histogram)")
VALUE = r"\d+(?:\.\d+)?"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
SAMPLE = re.compile(rf'({NAME})(?:{{((?:[^"}}]|"(?:[^"\\]|\\.)*")*)}})? ({VALUE})')
ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


class Malformed(Exception):
    """Says what is wrong, and in which line."""


class Family:
    """A metric family: its type, its help, and {labels: value} for each of its sample names."""

    def __init__(self, name):
        self.name = name
        self.type = None
        self.help = None
        self.samples = {}

    def value(self, suffix="", **labels):
        return self.samples[self.name + suffix][tuple(sorted(labels.items()))]


def read_labels(text):
    labels = {}
    at = 0
    while at < len(text):
        match = LABEL.match(text, at)
        if not match or (match[3] and match.end() == len(text)):
            raise Malformed(f"labels {text!r}")
        if match[1] in labels or match[1].startswith("__"):
            raise Malformed(f"label name {match[1]!r}")
        labels[match[1]] = re.sub(r"\\.", lambda escape: ESCAPES[escape[0]], match[2])
        at = match.end()
    return tuple(sorted(labels.items()))


def read_sample(family, line):
    match = SAMPLE.fullmatch(line)
    if not match:
        raise Malformed(f"line {line!r}")
    suffixes = ("_bucket", "_sum", "_count") if family.type == "histogram" else ("",)
    if match[1] not in [family.name + suffix for suffix in suffixes]:
        raise Malformed(f"{match[1]} under the head of {family.name}")
    if match[2] == "":
        raise Malformed(f"empty braces in {line!r}")
    labels = read_labels(match[2] or "")
    series = family.samples.setdefault(match[1], {})
    if labels in series:
        raise Malformed(f"{match[1]} twice with {labels}")
    series[labels] = float(match[3])


def check_histogram(family):
    groups = {}
    for labels, value in family.samples.get(family.name + "_bucket", {}).items():
        edge = dict(labels).get("le")
        if edge is None or not re.fullmatch(rf"{VALUE}|\+Inf", edge):
            raise Malformed(f"{family.name} has a bucket with le {edge!r}")
        rest = tuple(pair for pair in labels if pair[0] != "le")
        groups.setdefault(rest, []).append((float(edge), value))
    for suffix in ("_sum", "_count"):
        if set(family.samples.get(family.name + suffix, {})) != set(groups):
            raise Malformed(f"{family.name}{suffix} is not of the same series as the buckets")
    for labels, buckets in groups.items():
        if buckets != sorted(buckets) or len({edge for edge, _ in buckets}) != len(buckets):
            raise Malformed(f"{family.name}: edges not in order")
        counts = [count for _, count in buckets]
        if counts != sorted(counts):
            raise Malformed(f"{family.name}: not cumulative")
        if buckets[-1][0] != float("inf"):
            raise Malformed(f"{family.name}: no +Inf")
        if family.samples[family.name + "_count"][labels] != counts[-1]:
            raise Malformed(f"{family.name}: _count is not the last bucket")


def check_family(family):
    if family.type is None or not family.samples:
        raise Malformed(f"{family.name}: a head without a TYPE or without samples")
    if (family.type == "counter") != family.name.endswith("_total"):
        raise Malformed(f"{family.name} is a {family.type}")
    if family.type == "histogram":
        check_histogram(family)


def parse(text):
    """Returns {name: Family}, in order; raises Malformed."""
    families = {}
    family = None
    if text and not text.endswith("\n"):
        raise Malformed("the last line does not end")
    for line in text.split("\n")[:-1]:
        match = HELP.fullmatch(line)
        if match:
            if match[1] in families:
                raise Malformed(f"two heads of {match[1]}")
            family = families[match[1]] = Family(match[1])
            family.help = match[2]
            continue
        match = TYPE.fullmatch(line)
        if match:
            if not family or match[1] != family.name or family.type or family.samples:
                raise Malformed(f"TYPE of {match[1]} in the wrong place")
            family.type = match[2]
            continue
        if not family or not family.type:
            raise Malformed(f"no head before {line!r}")
        read_sample(family, line)
    for one in families.values():
        check_family(one)
    return families

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The implementation of scripts/contracts, given the path of the source."""

import argparse
import difflib
import hashlib
import pathlib
import re
import sys
from dataclasses import dataclass

CONF = pathlib.Path("scripts/contracts.conf")
HEAD = """\
# Fingerprints of the functions in scripts/contracts.conf, as somebody looked at
# them: scripts/contracts accept writes this.
# of {release}
"""

STRING = r'"(?:\\.|[^"\\\n])*"' + r"|'(?:\\.|[^'\\\n])*'"
TOKEN = re.compile(STRING + r"|\w+|[^\w\s]")
COMMENT = re.compile(rf"/\*.*?\*/|//[^\n]*|({STRING})", re.S)
BRACKET = re.compile(STRING + r"|[(){}]")
# Text that may stand between the parameters of a function and its body.
ATTRIBUTES = re.compile(r"\s*(?:__\w+(?:\s*\((?:[^()]|\([^()]*\))*\))?\s*)*\{")


@dataclass(frozen=True, order=True)
class Contract:
    """A function of the kernel, and which of our files relies on it for what."""

    file: str
    function: str
    ours: str
    why: str


def read_conf():
    """All contracts, and the names that the conf lists as harmless."""
    contracts, harmless, ours = [], set(), []
    for number, line in enumerate(CONF.read_text(encoding="utf-8").splitlines(), 1):
        text, _, why = (part.strip() for part in line.partition("#"))
        if not text:
            continue
        if match := re.fullmatch(r"\[(.*)\]", text):
            ours = match[1].split()
            missing = [name for name in ours if not pathlib.Path(name).exists()]
            if missing:
                sys.exit(f"zpipe: {CONF}:{number}: there is no {', '.join(missing)}")
            continue
        file, *functions = text.split()
        if not ours:
            harmless.update([file, *functions])
            continue
        if not functions or not why:
            sys.exit(f"zpipe: {CONF}:{number}: FILE FUNCTION... # WHAT IS RELIED ON")
        contracts += [Contract(file, function, ", ".join(ours), why) for function in functions]
    return contracts, harmless


def without_comments(text):
    return COMMENT.sub(lambda match: match[1] or " ", text)


def closing(text, at):
    """The position behind the bracket that closes the one at "at"."""
    depth = 0
    for match in BRACKET.finditer(text, at):
        if match[0] in ("(", "{"):
            depth += 1
        elif match[0] in (")", "}"):
            depth -= 1
            if depth == 0:
                return match.end()
    return None


def c_functions(text, name):
    """Each definition of a function or macro in C, with its body."""
    text = without_comments(text)
    pattern = re.compile(rf"^(?:[A-Za-z_][\w\s*]*?[\s*])?{name}\s*(?=\()", re.M)
    for match in pattern.finditer(text):
        behind = closing(text, match.end())
        body = behind and ATTRIBUTES.match(text, behind)
        if body and (end := closing(text, body.end() - 1)):
            yield text[match.start():end]
    for match in re.finditer(rf"^[ \t]*#[ \t]*define[ \t]+{name}\b(?:.*\\\n)*.*$", text, re.M):
        yield match[0]


def rust_functions(text, name):
    """The documentation of each function, trait or macro in Rust, and its signature."""
    documented = r"^(?:[ \t]*(?:///|#\[).*\n)*[ \t]*(?:[\w()]+ )*"
    item = rf"(?:(?:fn|trait) {name}\b[^{{;]*|macro_rules! {name}\b)"
    for match in re.finditer(documented + item, text, re.M):
        yield match[0]


class Source:
    """A kernel's source."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.texts = {}

    def function(self, contract):
        """All definitions of a function, one after another; '' if there is none."""
        path = self.root / contract.file
        if contract.file not in self.texts:
            self.texts[contract.file] = path.read_text(encoding="utf-8") if path.exists() else ""
        functions_of = rust_functions if path.suffix == ".rs" else c_functions
        return "\n".join(functions_of(self.texts[contract.file], contract.function))

    def fingerprint(self, contract):
        text = self.function(contract)
        if not text:
            return "-"
        return hashlib.sha256(" ".join(TOKEN.findall(text)).encode()).hexdigest()[:16]


def read_accepted(path):
    """{(file, function): fingerprint}, and the release to which they belong."""
    lines, release = {}, "nothing"
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("# of "):
                release = line[5:]
            elif not line.startswith("#"):
                fingerprint, file, function = line.split()
                lines[file, function] = fingerprint
    return lines, release


def write_accepted(path, release, lines):
    text = "".join(f"{fingerprint}\t{file}\t{function}\n"
                   for (file, function), fingerprint in sorted(lines.items()))
    path.write_text(HEAD.format(release=release) + text, encoding="utf-8")


def unlisted(contracts, harmless):
    """Functions of C that Rust calls and that scripts/contracts.conf lacks."""
    known = harmless | {contract.function for contract in contracts}
    for path in sorted(pathlib.Path("rust").rglob("*.rs")):
        for name in re.findall(r"\bbindings::(\w+)\(", path.read_text(encoding="utf-8")):
            if name not in known:
                yield f"{path} calls {name}(), which {CONF} does not have"


def lines_of(text):
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def show_difference(contract, before, after):
    if before.fingerprint(contract) == after.fingerprint(contract):
        return
    diff = difflib.unified_diff(
        lines_of(before.function(contract)), lines_of(after.function(contract)),
        f"{before.root}/{contract.file}", f"{after.root}/{contract.file}", n=1000, lineterm="")
    print(f"\n{contract.function}(): {contract.ours} relies on: {contract.why}")
    print("\n".join(diff))


def check(args, contracts, harmless, accepted):
    lines, release = accepted
    source = Source(args.source)
    wrong = list(unlisted(contracts, harmless))
    changed = 0
    for contract in sorted(contracts):
        now = source.fingerprint(contract)
        before = lines.get((contract.file, contract.function))
        if now == before:
            continue
        changed += 1
        what = "was never reviewed" if before is None else "does not exist" if now == "-" \
            else "exists again" if before == "-" else "has changed"
        wrong.append(f"{contract.file}: {contract.function}() {what}\n"
                     f"\t{contract.ours} relies on it: {contract.why}")
    for line in wrong:
        print(f"zpipe: contracts: {line}")
    if changed:
        print(f"""zpipe: contracts: {changed} of {len(lines)} functions differ in {args.release} from \
those accepted, of {release}.
Compare each with its earlier text, and check that our files are still right:
	KERNEL={args.kernel} scripts/contracts diff
(ZPIPE_SINCE=NAME compares with the kernel NAME of scripts/kernels.conf instead; show FUNCTION prints one
that was never reviewed.) If they are, accept:
	KERNEL={args.kernel} scripts/contracts accept""")
    return 1 if wrong else 0


def diff(args, contracts, accepted):
    if not args.since:
        sys.exit(f"zpipe: contracts: the source of {accepted[1]} is not in the cache. ZPIPE_SINCE=NAME "
                 "compares with another kernel; git log -L :FUNCTION:FILE in a clone of Linux "
                 "shows each change between two versions")
    before, after = Source(args.since), Source(args.source)
    for contract in sorted(contracts):
        show_difference(contract, before, after)
    return 0


def main():
    parser = argparse.ArgumentParser()
    for name in ("kernel", "release", "source", "accepted", "since"):
        parser.add_argument(f"--{name}", required=name != "since")
    parser.add_argument("command", choices=("check", "diff", "show", "accept"))
    parser.add_argument("functions", nargs="*")
    args = parser.parse_args()

    contracts, harmless = read_conf()
    accepted_path = pathlib.Path(args.accepted)
    accepted = read_accepted(accepted_path)
    if args.command == "check":
        return check(args, contracts, harmless, accepted)

    named = [c for c in contracts if c.function in args.functions] if args.functions else contracts
    if strange := set(args.functions) - {contract.function for contract in contracts}:
        sys.exit(f"zpipe: contracts: {CONF} has no {', '.join(sorted(strange))}")
    if args.command == "diff":
        return diff(args, named, accepted)
    source = Source(args.source)
    if args.command == "show":
        for contract in named:
            print(f"/* {contract.file} */\n{source.function(contract)}\n")
        return 0
    kept = {} if not args.functions else accepted[0]
    lines = kept | {(c.file, c.function): source.fingerprint(c) for c in named}
    write_accepted(accepted_path, args.release, lines)
    absent = sorted({function for (_, function), fingerprint in lines.items() if fingerprint == "-"})
    print(f"zpipe: contracts: {len(lines)} functions are as accepted in {accepted_path}; "
          f"not in this kernel: {', '.join(absent) or 'none'}")
    return 0


sys.exit(main())

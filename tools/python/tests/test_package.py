# SPDX-License-Identifier: MIT OR Apache-2.0
"""The package: its names, and its types for checkers."""

import ast
import importlib.metadata
import pathlib
import subprocess
import sys
import unittest

import zpipe_linux
from zpipe_linux import _native

HERE = pathlib.Path(zpipe_linux.__file__).parent


def names(body):
    """The public names that a stub defines, each with those of its class."""
    found = {}
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found[node.name] = names(getattr(node, "body", ()))
        elif isinstance(node, ast.AnnAssign):
            found[node.target.id] = {}
    return {name: inner for name, inner in found.items() if not name.startswith("_")}


class Package(unittest.TestCase):
    def test_stub(self):
        """The stub of the native part has its names, and no others."""
        stub = names(ast.parse((HERE / "_native.pyi").read_text()).body)
        public = {name for name in dir(_native) if not name.startswith("_")}
        self.assertEqual(set(stub), public)
        for cls in ("Block", "End"):
            members = {name for name in vars(getattr(_native, cls)) if not name.startswith("_")}
            self.assertEqual(set(stub[cls]), members)

    def test_typed(self):
        self.assertTrue((HERE / "py.typed").exists())

    def test_documented(self):
        for name in zpipe_linux.__all__:
            item = getattr(zpipe_linux, name)
            self.assertTrue(item.__doc__, name)
            for key, member in vars(item).items() if isinstance(item, type) else ():
                if callable(member) and not key.startswith("_"):
                    self.assertTrue(member.__doc__, f"{name}.{key}")

    def test_licenses(self):
        """Also those of the crates that are linked into it."""
        metadata = importlib.metadata.distribution("zpipe-linux")
        self.assertEqual(metadata.metadata["License"], "MIT OR Apache-2.0")
        self.assertLessEqual({"LICENSE-APACHE", "LICENSE-MIT", "NOTICES"},
                             set(metadata.metadata.get_all("License-File")))
        (notices,) = [file for file in metadata.files if file.name == "NOTICES"]
        self.assertRegex(notices.read_text(), r"    pyo3 [0-9.]*: MIT\n")

    def test_needs_no_numpy(self):
        code = ("import sys; import zpipe_linux; zpipe_linux.allocate(1); "
                "assert 'numpy' not in sys.modules")
        subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    unittest.main()

"""The identity of a pipeline's source."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coralord_lightning.errors import PipelineNotFoundError
from coralord_lightning.spec.code import code_digest, import_closure, require_function, without_comments

SOURCE = '''\
"""Doc."""
import os

def scale(batch, max=16):
    """Docs count.   

    # not a comment
    """
    text = f"{max}# no comment"
    return batch
'''


def closure(files: dict[str, str], entry: str = "pipeline.py"):
    return import_closure(entry, files.get)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import os\n", "import os  # the system\n"),
        ("import os\n", "# about os\nimport os\n"),
        ("import os\n", "import os   \n"),
        ("import os\n", "\n\nimport os\n\n\n"),
        ("    return batch\n", "    # back\n    return batch  # to you\n"),
    ],
)
def test_edit_of_a_comment_or_of_blank_space_keeps_the_digest(old, new):
    edited = SOURCE.replace(old, new)
    assert edited != SOURCE
    assert code_digest(edited) == code_digest(SOURCE)


def test_line_endings_of_another_system_keep_the_digest():
    assert code_digest(SOURCE.replace("\n", "\r\n")) == code_digest(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max=16", "max=17"),
        ("Docs count.   ", "Docs count."),
        ("# not a comment", "# not a comment!"),
        ("# no comment", "# no comments"),
        ("Docs count.   \n\n", "Docs count.   \n\n\n"),
        ("    return batch", "     return batch"),
        ("batch, max", "batch,max"),
    ],
)
def test_edit_that_may_matter_changes_the_digest(old, new):
    edited = SOURCE.replace(old, new)
    assert edited != SOURCE
    assert code_digest(edited) != code_digest(SOURCE)


@given(st.text(alphabet="ab#\"'\\ \t\n{}", max_size=40))
def test_no_text_crashes_and_what_is_cut_parses_to_the_same_tree(text):
    import ast
    import tokenize
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.dump(ast.parse(text))
            cut = without_comments(text)
        except (SyntaxError, ValueError, tokenize.TokenError):
            return
        assert ast.dump(ast.parse(cut)) == tree


def test_local_imports_are_followed_and_others_are_named():
    found = closure(
        {
            "pipeline.py": "import numpy as np\nimport os\nfrom lib import shapes\nfrom .near import x\n",
            "lib/__init__.py": "",
            "lib/shapes.py": "from . import deep\nimport PIL.Image\n",
            "lib/deep.py": "from .. import top\nimport pipeline",
            "top.py": "",
            "near.py": "",
            "unused.py": "",
        }
    )
    assert sorted(found.code) == ["lib/__init__.py", "lib/deep.py", "lib/shapes.py", "near.py", "pipeline.py", "top.py"]
    assert found.imports == {"numpy", "PIL"}


def test_an_import_inside_a_function_is_followed_too():
    found = closure({"pipeline.py": "def f(b):\n    import late\n", "late.py": ""})
    assert "late.py" in found.code


def test_modules_beside_a_pipeline_in_a_folder_are_found():
    found = closure({"etl/pipeline.py": "import near\nimport top", "etl/near.py": "", "top.py": ""}, "etl/pipeline.py")
    assert sorted(found.code) == ["etl/near.py", "etl/pipeline.py", "top.py"]


def test_a_missing_pipeline_file_is_named():
    with pytest.raises(PipelineNotFoundError, match=r"no file 'pipeline\.py'"):
        closure({})


@pytest.mark.parametrize("text", ["def f(:\n", "x = '", "def f():\n  x\n y\n", "a = 1 +\n", "\0"])
def test_a_file_that_is_no_python_is_named_with_its_line(text):
    with pytest.raises(PipelineNotFoundError) as caught:
        closure({"pipeline.py": "import broken", "broken.py": text})
    assert "broken.py" in caught.value.subject


@pytest.mark.parametrize(
    "text",
    [
        "def scale(b): ...",
        "async def scale(b): ...",
        "scale = lambda b: b",
        "scale: object = print",
        "from x import scale",
        "from x import other as scale",
        "from x import *",
        "if True:\n    def scale(b): ...",
        "try:\n    import scale\nexcept ImportError:\n    scale = None",
        "a, (scale, c) = 1, (2, 3)",
    ],
)
def test_a_function_bound_in_any_way_is_found(text):
    require_function(text, file="pipeline.py", function="scale")


def test_a_missing_function_suggests_the_nearest():
    with pytest.raises(PipelineNotFoundError) as caught:
        require_function("def scale(b): ...\ndef other(b): ...", file="pipeline.py", function="scael")
    assert caught.value.remedy == "entrypoint: pipeline.py:scale"
    assert "other, scale" in str(caught.value)


def test_a_function_inside_a_function_is_not_bound():
    with pytest.raises(PipelineNotFoundError):
        require_function("def outer():\n    def scale(b): ...", file="pipeline.py", function="scale")

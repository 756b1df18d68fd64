"""Predicates: what is read, what is refused, and that one meaning has one canonical form."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.errors import CoralError, DescriptorError, PredicateError, UnknownFieldError
from coralord_lightning.spec.predicate import Predicate, equals, parse_predicate, quote_identifier, quote_literal
from coralord_lightning.spec.predicate.scan import PredicateText
from coralord_lightning.spec.predicate.translate import translate

GOLDEN = Path(__file__).parent / "golden" / "spec"
FIELDS = {
    "label": "integer",
    "part": "text",
    "day": "date",
    "ts": "timestamp",
    "at": "time",
    "clock": "time",
    "flag": "bool",
    "x": "float64",
    "image": "uint8[]",
    "raw": "bytes",
    "odd": "unsupported",
    'we"ird name': "int64",
    "größe": "int64",
}


def parse(text: str):
    return parse_predicate(text, subject="splits.test.where", fields=FIELDS)


def outcome(text: str) -> Predicate | DescriptorError:
    """A predicate or the error that a user meets; any other exception passes."""
    try:
        return parse(text)
    except DescriptorError as error:
        return error


def test_texts_keep_their_canonical_form_and_sql_on_every_duckdb():
    golden = json.loads((GOLDEN / "predicates.json").read_text(encoding="utf-8"))
    assert {text: [parse(text).to_json(), parse(text).to_sql(quote_identifier)] for text in golden} == golden


@pytest.mark.parametrize("release", ["1.5", "2.0"])
def test_the_trees_of_both_releases_of_duckdb_are_read_alike(release):
    golden = json.loads((GOLDEN / "predicates.json").read_text(encoding="utf-8"))
    for text, tree in json.loads((GOLDEN / f"duckdb_trees_{release}.json").read_text(encoding="utf-8")).items():
        source = PredicateText(subject="where", text=text)
        assert Predicate(translate(tree, source=source, fields=FIELDS)).to_json() == golden[text][0]


def test_error_texts_stay_as_they_are():
    texts = json.loads((GOLDEN / "hostile.json").read_text(encoding="utf-8"))
    shown = []
    for text in texts:
        with pytest.raises(CoralError) as caught:
            parse(text)
        assert isinstance(caught.value, PredicateError | UnknownFieldError)
        # the parser's own words differ between releases of DuckDB
        caught.value.facts.pop("parser", None)
        shown.append(str(caught.value))
    assert "\n\n".join(shown) + "\n" == (GOLDEN / "predicate_errors.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("label % 2 = 0 AND label < 8", "((label%2)=0)and(  label<8 )"),
        ("label != 3", "label <> 3"),
        ("label != 3", "NOT label = 3"),
        ("label >= 3", "not (label < 3)"),
        ("label NOT IN (1, 2)", "not (label in (1,2))"),
        ("label IN (1)", "not (label not in (1,))"),
        ("part IS NOT NULL", "not part is null"),
        ("part not like 'a%'", "NOT (part LIKE 'a%')"),
        ("flag and flag and flag", "flag and (flag and flag)"),
        ("flag", "not not flag"),
        ("flag is true", "flag is not distinct from TRUE"),
        ("suffix(part, 'x')", "ends_with(part, 'x')"),
        ("prefix(part, 'x')", "starts_with(part, 'x')"),
        ("CEILING(x) = 1", "ceil(x) = 1"),
        ("extract(year from day) = 2020", "YEAR(day) = 2020"),
        ("x < 1e3", "x < 1000.0e0"),
        ("label < 007", "label < 7"),
        ("label < 1_000", "label < 1000"),
        ("x < 5.", "x < 5"),
        ("x < .5", "x < 0.5"),
        ("day = date '2020-01-01'", "day = cast('2020-01-01' as DATE)"),
        ("label = int4 '3'", "label = '3'::INTEGER"),
        ("x = real '3'", "x = '3'::float4"),
        ("flag = 't'::bool", "flag = true"),
        ("+label = 1", "label = 1"),
    ],
)
def test_two_spellings_of_one_meaning_have_one_form(one, other):
    assert parse(one).to_json() == parse(other).to_json()
    assert parse(one) == parse(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("label = 3", "label = 4"),
        ("label = 3", "3 = label"),
        ("part = 'a'", "part = 'A'"),
        ("x = 1.5", "x = 1.5e0"),
        ("flag or flag and flag", "(flag or flag) and flag"),
    ],
)
def test_two_meanings_have_two_forms(one, other):
    assert parse(one).to_json() != parse(other).to_json()


def test_a_misspelt_field_comes_back_corrected_in_place():
    with pytest.raises(UnknownFieldError) as caught:
        parse("part = 'lable é' AND lable = 3")
    assert caught.value.remedy == "where: \"part = 'lable é' AND label = 3\""
    with pytest.raises(UnknownFieldError) as caught:
        parse('"Label" = 3')
    assert caught.value.remedy == 'where: "label = 3"'
    with pytest.raises(UnknownFieldError) as caught:
        parse("weird_name = 3 or größee = 1")
    assert "we" in str(caught.value)


def test_a_field_named_like_a_word_of_sql_comes_back_in_quotes():
    with pytest.raises(PredicateError) as caught:
        parse("at > '10:00:00' and part = 'at'")
    assert caught.value.remedy == """where: "\\"at\\" > '10:00:00' and \\"part\\" = 'at'\""""
    assert parse("\"at\" > '10:00:00' and \"part\" = 'at'").fields() == {"at", "part"}


def test_a_text_in_the_wrong_quotes_is_put_into_the_right_ones():
    with pytest.raises(UnknownFieldError) as caught:
        parse('part = "training"')
    assert caught.value.remedy == "where: \"part = 'training'\""


def test_a_misspelt_function_comes_back_corrected():
    with pytest.raises(PredicateError) as caught:
        parse("LOWR (part) = 'a'")
    assert caught.value.remedy == "where: \"lower (part) = 'a'\""


def test_fields_says_which_fields_are_read():
    assert parse("label = 1 and (part = 'x' or label in (2, 3))").fields() == {"label", "part"}


def test_equals_is_the_predicate_a_user_would_write():
    assert equals("part", "it's") == parse("part = 'it''s'")
    assert equals("label", -3) == parse("label = -3")
    assert equals("flag", True) == parse("flag = true")


def test_columns_are_named_by_the_caller():
    assert parse("label = 1").to_sql(lambda name: f't."c_{name}"') == '(t."c_label" = 1)'


def test_quoting_is_reversible_and_refuses_what_sql_cannot_hold():
    assert quote_identifier('a"b') == '"a""b"'
    assert quote_literal("it's") == "'it''s'"
    assert (quote_literal(3), quote_literal(-3), quote_literal(False)) == ("3", "(-3)", "FALSE")
    for quote in (quote_identifier, quote_literal):
        with pytest.raises(ValueError, match="NUL"):
            quote("a\0b")


def test_nested_calls_are_checked_once_each():
    text = "coalesce(" * 40 + "label" + ")" * 40 + " = 1"
    assert parse(text).fields() == {"label"}


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000 + "flag" + ")" * 10_000,
        "(" * 65 + "flag" + ")" * 65,
        "not " * 2_000 + "flag",
        "- " * 4_000 + "label = 1",
        "+".join(["label"] * 2_000) + " = 1",
        "+".join(["label"] * 70) + " = 1",
        " and ".join(["label = 1"] * 5_000),
        "label" + "::int" * 2_000 + " = 1",
        "label = " + "9" * 5_000,
        "lower(" * 500 + "part" + ")" * 500,
    ],
)
def test_absurd_size_or_nesting_is_refused(text):
    with pytest.raises(PredicateError):
        parse(text)


def test_long_lists_and_chains_are_taken():
    values = ", ".join(map(str, range(2_500)))
    assert len(parse(f"label IN ({values})").to_json()) == 2_502
    assert len(parse(" OR ".join(["label = 1"] * 1_000)).to_json()) == 1_001


def test_a_field_of_unread_type_is_not_judged_here():
    assert parse("odd = 3 or odd = 'x'").fields() == {"odd"}


def test_threads_share_the_parser():
    with ThreadPoolExecutor(8) as pool:
        forms = set(pool.map(lambda _: json.dumps(parse("label % 2 = 0 AND part <> 'x'").to_json()), range(100)))
    assert len(forms) == 1


_FORK = """
import os, sys
from coralord_lightning.spec.predicate import parse_predicate
parse = lambda: parse_predicate("a = 1", subject="where", fields={"a": "int64"}).to_json()
here = parse()
child = os.fork()
if child == 0:
    os._exit(0 if parse() == here else 9)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert parse() == here
heavy = {"pandas", "torch", "lightning", "mlcroissant", "numpy", "pyarrow"} & set(sys.modules)
assert not heavy, heavy
"""


def test_a_forked_child_parses_with_a_connection_of_its_own_and_nothing_heavy_is_imported():
    subprocess.run([sys.executable, "-c", _FORK], check=True, timeout=60)


def numbers() -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["label", "x", '"we""ird name"', '"größe"', "1", "-2", "1.50", "2e3", "int '7'"])
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from("+-*/%"), inner).map(lambda parts: f"({' '.join(parts)})"),
            inner.map(lambda text: f"- {text}"),
            inner.map(lambda text: f"abs({text})"),
            st.tuples(inner, inner).map(lambda parts: f"coalesce({', '.join(parts)})"),
        ),
        max_leaves=4,
    )


def texts() -> st.SearchStrategy[str]:
    literals = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6).map(quote_literal)
    return st.one_of(st.just("part"), literals, st.just("lower(part)"), literals.map(lambda text: f"part || {text}"))


def conditions() -> st.SearchStrategy[str]:
    compare = st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">=", "is distinct from", "IS NOT DISTINCT FROM"])
    leaves = st.one_of(
        st.tuples(numbers(), compare, numbers()).map(" ".join),
        st.tuples(texts(), compare, texts()).map(lambda parts: f"({parts[0]}) {parts[1]} ({parts[2]})"),
        numbers().map(lambda text: f"{text} is not null"),
        numbers().map(lambda text: f"{text} NOT BETWEEN 1 AND 2.5"),
        texts().map(lambda text: f"({text}) in ('a', 'b''c')"),
        texts().map(lambda text: f"({text}) not ilike 'a%'"),
        st.sampled_from(["flag", "day >= '2020-01-01'", "ts < timestamp '2020-01-01 10:00:00'", "year(day) = 2020"]),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(["AND", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
            inner.map(lambda text: f"NOT ({text})"),
        ),
        max_leaves=6,
    )


@settings(deadline=None, max_examples=150)
@given(conditions())
def test_what_is_printed_reads_back_as_the_same(text):
    predicate = parse(text)
    again = parse(predicate.to_sql(quote_identifier))
    assert again == predicate
    assert again.to_json() == predicate.to_json()
    assert parse(f"  (\n({text})\t) ") == predicate


_WORDS = """label part ( ) ' " = < , ; -- /* */ select from union and or not in is null like 1 * ? $1 [ ] { } :: := ->
case when end over count lower row read_csv('/etc/passwd') '/etc/passwd' t . x' E' $$ interval date"""
_TOKENS = st.lists(st.sampled_from(sorted(_WORDS.split())), max_size=14).map(" ".join)


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(max_size=40), _TOKENS))
def test_any_text_is_read_or_refused_with_a_remedy(text):
    found = outcome(text)
    if isinstance(found, DescriptorError):
        assert found.remedy
        assert found.subject == "splits.test.where"
    else:
        assert parse(found.to_sql(quote_identifier)) == found

"""The grammar of claims: what is read, what is refused and where the error points."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.study.claims import DEEPEST, Call, Name, Negative, Number, Operation, of_all_arms, parse, walk
from limbeck.study.tokenizer import LONGEST, ClaimError, tokenize


def test_a_claim_is_two_sides_and_a_comparison():
    claim = parse("distilled.accuracy > alone.accuracy + 0.01")
    assert claim.comparison == ">"
    assert claim.left == Name("distilled", None, "accuracy")
    assert claim.right == Operation("+", Name("alone", None, "accuracy"), Number(0.01))
    assert claim.names() == [Name("distilled", None, "accuracy"), Name("alone", None, "accuracy")]
    assert [name.column for name in claim.names()] == [0, 21]
    assert claim.text == "distilled.accuracy > alone.accuracy + 0.01"


@pytest.mark.parametrize("sign", [">", "<", ">=", "<="])
def test_the_four_comparisons(sign: str):
    assert parse(f"a.x{sign}b.x").comparison == sign


def test_products_bind_tighter_than_sums_and_signs_of_a_kind_from_the_left():
    x, y, z = (Name(arm, None, "m") for arm in "xyz")
    assert parse("x.m + y.m * z.m > 0").left == Operation("+", x, Operation("*", y, z))
    assert parse("(x.m + y.m) * z.m > 0").left == Operation("*", Operation("+", x, y), z)
    assert parse("x.m - y.m - z.m > 0").left == Operation("-", Operation("-", x, y), z)
    assert parse("x.m / y.m / z.m > 0").left == Operation("/", Operation("/", x, y), z)
    assert parse("-x.m + y.m > 0").left == Operation("+", Negative(x), y)
    assert parse("x.m - -y.m > - -1").left == Operation("-", x, Negative(y))
    assert parse("x.m > -1").right == Number(-1.0)
    assert parse("x.m > - -2").right == Number(2.0)


def test_names_of_three_parts_may_mean_a_model_or_a_metric_with_a_point():
    (name,) = parse("kd.agreement.top1 > 0.9").names()
    assert (name.arm, name.model, name.metric) == ("kd", "agreement", "top1")
    assert name.readings() == (name, Name("kd", None, "agreement.top1"))
    assert name.text == "kd.agreement.top1"
    (name,) = parse("kd.teacher.agreement.top1 > 0.9").names()
    assert (name.model, name.metric) == ("teacher", "agreement.top1")
    assert parse("kd.accuracy > 0").names()[0].readings() == (Name("kd", None, "accuracy"),)


def test_arms_of_other_characters_go_in_quotes():
    claim = parse("""'logits.temperature=4'.accuracy > "wa-kd".accuracy""")
    assert [name.arm for name in claim.names()] == ["logits.temperature=4", "wa-kd"]


def test_all_arms():
    claim = parse("spearman(*.agreement.top1, *.accuracy) > 2 * 0.4")
    assert claim.left == Call("spearman", (Name("*", "agreement", "top1"), Name("*", None, "accuracy")))
    assert parse("2 * mean(*.x) > 1").left == Operation("*", Number(2.0), Call("mean", (Name("*", None, "x"),)))
    assert parse("mean(2**.x) > 1").left == Call("mean", (Operation("*", Number(2.0), Name("*", None, "x")),))
    assert parse("min(*.x, 3) > max(a.x, b.x)").left == Call("min", (Name("*", None, "x"), Number(3.0)))


def test_what_is_a_value_of_every_arm():
    def starred(text: str) -> bool:
        call = parse(f"mean({text}) > a.y").left
        assert isinstance(call, Call)
        return of_all_arms(call.arguments[0])

    assert starred("*.x")
    assert starred("-abs(1 - *.x)")
    assert starred("2 * *.x")
    assert not starred("a.x")
    assert not starred("max(*.x)")
    assert not starred("1")


@pytest.mark.parametrize(("number", "value"), [("1", 1.0), ("0.25", 0.25), (".5", 0.5), ("1e-3", 1e-3), ("2E+2", 200.0), ("1.5e2", 150.0)])
def test_numbers(number: str, value: float):
    assert parse(f"a.x > {number}").right == Number(value)


def test_walk_gives_every_part_from_left_to_right():
    claim = parse("abs(a.x - 1) * -b.x > 0")
    found = [type(part).__name__ for part in walk(claim.left)]
    assert found == ["Operation", "Call", "Operation", "Name", "Number", "Negative", "Name"]


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 0, "a claim is empty; write one such as distilled.accuracy > alone.accuracy."),
        ("a.x >", 5, "expected a number, a name such as distilled.accuracy, a function or '(', found the end."),
        ("a.x", 3, "expected an operator or a comparison (>, <, >=, <=), found the end."),
        ("a.x b.x", 4, "expected an operator or a comparison (>, <, >=, <=), found 'b'."),
        ("a.x > b.x c.x", 10, "expected an operator or the end, found 'c'."),
        ("a.x > b.x > c.x", 10, "a claim compares two sides; write a second claim for this one."),
        ("a.x == b.x", 4, "expected >, <, >= or <=, found '==': seeds cannot show that two values are equal. "),
        ("a.x = b.x", 4, "expected >, <, >= or <=, found '='"),
        ("a.x != b.x", 4, "expected >, <, >= or <=, found '!='"),
        ("a. > b.x", 3, "expected a metric after '.', such as accuracy, found '>'."),
        ("a > b.x", 2, "expected '.' and a metric after 'a', found '>'; write ARM.METRIC, such as distilled.accuracy; "),
        ("wa-kd.x > 1", 2, "an arm with other signs than letters, digits and _ goes in quotes."),
        ("* > 1", 2, "expected '.' and a metric after all arms"),
        ("*.x > 1", 0, "*.x is a value of every arm, a claim compares one with one; put it into mean, min, max, std, spearman or pearson."),
        ("1 > abs(2 - *.x)", 12, "*.x is a value of every arm"),
        ("1 > 2", 0, "a claim is about an arm; name one, such as distilled.accuracy."),
        ("meen(a.x) > 1", 0, "no function is called 'meen'. Did you mean 'mean'?"),
        ("exec(a.x) > 1", 0, "no function is called 'exec'."),
        ("__import__(a.x) > 1", 0, "no function is called '__import__'. Known: abs, log, sqrt, min, max, mean, std, spearman, pearson."),
        ("abs() > 1", 4, "abs needs an argument, such as abs(distilled.accuracy)."),
        ("abs(a.x, b.x) > 1", 0, "abs takes one argument, found 2."),
        ("spearman(a.x) > 1", 0, "spearman takes two arguments, such as spearman(*.ece, *.accuracy), found 1."),
        ("spearman(*.x, b.x) > 1", 0, "spearman pairs its arguments: either both are of all arms (*.METRIC) or neither is."),
        ("min(a.x) > 1", 0, "min chooses between values of the same seed: write min(a.accuracy, b.accuracy) or min(*.accuracy)."),
        ("(a.x > 1", 5, "expected ')' for the '(' in column 1, found '>'."),
        ("abs(a.x > 1", 8, "expected ')' for the '(' in column 4, found '>'."),
        ("a.x > 1)", 7, "expected an operator or the end, found ')'."),
        ("a.x ≥ 1", 4, "'≥' has no meaning in a claim. Did you mean '>='?"),
        ("a.x ^ 2 > 1", 4, "a claim knows no powers"),
        ("a.x > 1%", 7, "'%' has no meaning in a claim. A claim is made of numbers, ARM.METRIC, + - * / ( ) and one of > < >= <=."),
        ("'a.x > 1", 0, "the quote ' is not closed."),
        ("''.x > 1", 0, "expected a name between the quotes."),
        ("a.x > 4x.y", 7, "expected an operator after the number, found 'x'; an arm whose name begins with a digit goes in quotes"),
        ("a.x > 1.", 7, "expected digits after the point of a number."),
        ("a.x > 1e999", 6, "the number 1e999 is too large."),
        ("a.x ** 2 > 1", 4, "a claim knows no powers; write a product, such as a.ece * a.ece."),
    ],
)
def test_faults_are_pointed_at(text: str, column: int, message: str):
    with pytest.raises(ClaimError) as caught:
        parse(text)
    assert caught.value.column == column
    assert message in caught.value.message
    lines = str(caught.value).splitlines()
    assert lines[0] == f"claim, column {column + 1}: {caught.value.message}"
    assert lines[-2:] == [f"  {text}", f"  {' ' * column}^"]


def test_who_knows_the_arms_points_at_a_name():
    claim = parse("kd.accuracy > aloen.accuracy")
    error = claim.error(claim.names()[1], "no arm is called 'aloen'. Did you mean 'alone'?")
    assert str(error) == (
        "claim, column 15: no arm is called 'aloen'. Did you mean 'alone'?\n  kd.accuracy > aloen.accuracy\n                ^"
    )


def test_length_and_depth_have_limits():
    fits = "a.x > " + "1+" * ((LONGEST - 8) // 2) + "1"
    assert parse(fits.ljust(LONGEST)).names() == [Name("a", None, "x")]
    with pytest.raises(ClaimError, match=f"at most {LONGEST} characters, found {LONGEST + 1}"):
        parse(fits.ljust(LONGEST + 1))
    parse("(" * DEEPEST + "a.x" + ")" * DEEPEST + " > 1")
    parse("(a.x) + " * 40 + "1 > 1")  # beside each other is not inside each other
    parse("-a.x + " * 40 + "1 > 1")
    parse("abs(a.x) + " * 40 + "1 > 1")
    for deep in ("(" * 33 + "a.x" + ")" * 33 + " > 1", "-" * 33 + "a.x > 1", "abs(" * 33 + "a.x" + ")" * 33 + " > 1"):
        with pytest.raises(ClaimError, match="nested deeper than 32 levels"):
            parse(deep)


def test_long_claims_are_cut_around_the_fault():
    text = "a.x > " + "1 + " * 50 + "$" + " + 1" * 50
    with pytest.raises(ClaimError) as caught:
        parse(text)
    assert caught.value.column == 206
    line, caret = caught.value.excerpt.splitlines()
    assert line[caret.index("^")] == "$"
    assert len(line) == 122


def test_tokens_know_where_they_stand():
    assert [(token.kind, token.text, token.column) for token in tokenize("'a b'.x>=1.5e2")] == [
        ("quoted", "'a b'", 0),
        ("operator", ".", 5),
        ("name", "x", 6),
        ("operator", ">=", 7),
        ("number", "1.5e2", 9),
        ("end", "", 14),
    ]


@given(st.text(alphabet="ab.x*+-/()<>=,'\"1e \tmeanspr_$", max_size=60))
def test_any_text_is_read_or_refused_with_a_place(text: str):
    fault, names = None, []
    try:
        names = parse(text).names()
    except ClaimError as error:
        fault = error
    assert names if fault is None else 0 <= fault.column <= len(text)


def written(depth: int) -> st.SearchStrategy[str]:
    """Texts of expressions, for reading them again."""
    leaf = st.sampled_from(["a.x", "b.y", "2", "0.5", "'4'.z", "mean(*.x)"])
    if depth == 0:
        return leaf
    inner = written(depth - 1)
    both = st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})")
    return leaf | both | inner.map(lambda text: f"abs({text})") | inner.map(lambda text: f"-({text})")


@given(written(3), st.sampled_from([">", "<", ">=", "<="]))
def test_spaces_and_parentheses_around_do_not_matter(side: str, sign: str):
    plain = parse(f"{side} {sign} a.x")
    spaced = parse(f" ( {side} )\t{sign}((a.x)) ".replace("+", " + "))
    assert (plain.left, plain.right, plain.comparison) == (spaced.left, spaced.right, spaced.comparison)

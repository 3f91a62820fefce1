"""The pieces of a page."""

from search.show import html
from search.show.html import Line


def test_what_is_written_into_a_page_is_escaped_and_remarks_stand_below_their_line() -> None:
    table = html.table(["trial", "state"], [Line(("1", "<b>"), state="FAIL", remark="a & b")])
    assert "&lt;b&gt;" in table
    assert table.index("&lt;b&gt;") < table.index("a &amp; b")
    assert "<script>" not in html.page("t<", [html.heading("a<b")])
    assert "a&lt;b" in html.heading("a<b")


def test_only_a_page_with_a_table_to_search_carries_the_script_for_it() -> None:
    plain, searched = (html.table(["trial", "state"], [Line(("1", "FAIL"))], searched=flag) for flag in (False, True))
    assert '<table class="trials searched">' in searched
    assert '<td>1</td><td class="state">FAIL</td>' in searched  # a number's cell says nothing of itself
    assert "table.searched" in html.page("t", [searched]).partition("</style>")[2]
    assert "table.searched" not in html.page("t", [plain]).partition("</style>")[2]

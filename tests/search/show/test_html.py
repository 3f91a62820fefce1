"""The pieces of a page."""

from search.show import html
from search.show.html import Line


def test_what_is_written_into_a_page_is_escaped_and_remarks_stand_below_their_line() -> None:
    table = html.table(["trial", "state"], [Line(("1", "<b>"), state="FAIL", remark="a & b")])
    assert "&lt;b&gt;" in table
    assert table.index("&lt;b&gt;") < table.index("a &amp; b")
    assert "<script>" not in html.page("t<", [html.heading("a<b")])
    assert "a&lt;b" in html.heading("a<b")

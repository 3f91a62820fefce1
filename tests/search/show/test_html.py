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


def test_a_page_carries_plotly_packed_and_once() -> None:
    box = '<div class="figure"></div>'
    assert html.page("t", [box, box]).count(html.packed_plotly()) == 1
    assert html.packed_plotly() not in html.page("t", [])
    assert len(html.packed_plotly()) < 2.1e6


def test_times_are_in_one_format() -> None:
    assert html.moment("2026-01-31T13:05:59+01:00") == "2026-01-31 12:05 UTC"
    assert html.moment("2026-01-31 13:05") == "2026-01-31 13:05 UTC"
    assert html.moment("yesterday") == "yesterday"


def test_what_figures_show_of_a_point_ends_no_script() -> None:
    text = html.hovers({"7": "</script>\n<b>"})
    assert (
        text
        == r'<script type="application/json" class="hovers">{"7": "&lt;/script&gt;<br>&lt;b&gt;"}</script>'.replace(
            "<br>", r"\u003cbr>"
        )
    )


def test_links_and_details_are_escaped() -> None:
    assert html.contents([("a<b", "study-1"), ("c", "study-2")]) == (
        '<p><a href="#study-1">a&lt;b</a> · <a href="#study-2">c</a></p>'
    )
    assert html.details("a<b", "<p>x</p>") == "<details><summary>a&lt;b</summary>\n<p>x</p>\n</details>"
    assert html.section(["x"], 'a"b') == '<section id="a&quot;b">\nx\n</section>'

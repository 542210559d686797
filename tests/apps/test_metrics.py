# SPDX-License-Identifier: MIT
"""The text for Prometheus as a strict reader sees it, and that reader on texts that are wrong."""
import os
import subprocess
import unittest

from command import BACKENDS, LIMIT_S
from exposition import Malformed, parse

HEAD = "# HELP a_total Help.\n# TYPE a_total counter\n"
HISTOGRAM = (
    "# HELP h Help.\n# TYPE h histogram\n"
    'h_bucket{le="0.5"} 1\nh_bucket{le="+Inf"} 2\nh_sum 1.5\nh_count 2\n'
)


class ReaderTests(unittest.TestCase):
    """The reader refuses what a scraper might take or not."""

    def test_takes_what_is_right(self):
        families = parse(HEAD + 'a_total{b="\\n\\"\\\\}{, ",c="d"} 7\na_total 1\n' + HISTOGRAM)
        self.assertEqual(families["a_total"].value(b='\n"\\}{, ', c="d"), 7)
        self.assertEqual(families["a_total"].value(), 1)
        self.assertEqual(families["h"].value("_count"), 2)
        self.assertEqual(parse(""), {})

    def test_refuses_what_is_wrong(self):
        for text in (
            "a_total 1\n",  # no head
            HEAD,  # no sample
            HEAD + "a_total 1",  # no end
            HEAD + "\na_total 1\n",  # an empty line
            HEAD + "a_total  1\n",
            HEAD + "a_total 1 \n",
            HEAD + "a_total 1\r\n",
            HEAD + "a_total -1\n",
            HEAD + "a_total{} 1\n",
            HEAD + 'a_total{b="c",} 1\n',
            HEAD + 'a_total{b="c" ,d="e"} 1\n',
            HEAD + 'a_total{b="c",b="d"} 1\n',
            HEAD + 'a_total{b="\\t"} 1\n',
            HEAD + 'a_total{b="c} 1\n',
            HEAD + 'a_total{1b="c"} 1\n',
            HEAD + "a_total 1\na_total 2\n",
            HEAD + "b_total 1\n",
            HEAD + "a_total 1\n" + HEAD + "a_total 2\n",
            HEAD.replace("counter", "gauge") + "a_total 1\n",
            HEAD.replace("a_total", "a") + "a 1\n",
            "# TYPE a_total counter\na_total 1\n",
            "# HELP a_total Help.\na_total 1\n",
            HISTOGRAM.replace("h_count 2", "h_count 3"),
            HISTOGRAM.replace("h_count 2\n", ""),
            HISTOGRAM.replace("h_sum 1.5\n", ""),
            HISTOGRAM.replace('h_bucket{le="+Inf"} 2\n', ""),
            HISTOGRAM.replace('h_bucket{le="0.5"} 1', 'h_bucket{le="0.5"} 3'),
            HISTOGRAM.replace('h_bucket{le="0.5"} 1', "h_bucket 1"),
            HISTOGRAM.replace("0.5", "x"),
        ):
            with self.subTest(text=text), self.assertRaises(Malformed):
                parse(text)


class ExampleTests(unittest.TestCase):
    """examples/metrics.c: two runtimes in one text."""

    def test_two_runtimes_are_one_text(self):
        for backend, name in zip(BACKENDS, ("io_uring", "epoll")):
            with self.subTest(backend=backend):
                result = subprocess.run(
                    [os.environ["RDY_EXAMPLE_METRICS"]], capture_output=True, text=True,
                    timeout=LIMIT_S, check=True, env={**os.environ, "RDY_BACKEND": backend})
                families = parse(result.stdout)
                spawned = families["rdy_spawned_tasks_total"]
                self.assertEqual(spawned.value(runtime="first"), 10)
                self.assertEqual(spawned.value(runtime="second"), 20)
                polls = families["rdy_poll_total"]
                self.assertEqual(polls.value(runtime="second"), 40)
                times = families["rdy_poll_time_seconds"]
                self.assertEqual(times.value("_count", runtime="second"), 40)
                self.assertGreater(times.value("_sum", runtime="second"), 0)
                self.assertNotIn((("runtime", "first"),), times.samples[times.name + "_count"])
                self.assertEqual(
                    families["rdy_backend_info"].value(runtime="first", backend=name), 1)
                self.assertTrue(all(name.startswith("rdy_") for name in families))


if __name__ == "__main__":
    unittest.main()

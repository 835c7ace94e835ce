#!/usr/bin/env python3
"""Compares the words that `millrace text` finds in the corpus' PDFs with those
of poppler's `pdftotext`, for each format. Needs Python 3 and poppler-utils.

    tests/compare_text.py [--program target/release/millrace] [--format plain]

Prints a line for each file and fails if a goal is missed: of all words of
poppler 98.5 %, and 95 % in each file of 50 words and more.
"""

import argparse
import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug/millrace"
FORMATS = ["markdown", "plain", "layout"]
OVERALL, EACH, WORDS = 0.985, 0.95, 50


def words(text):
    """The multiset of words: runs of letters and digits after NFKC."""
    return collections.Counter(re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text)))


def output(command):
    """What a command prints, and how long it took in milliseconds."""
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return done.stdout.decode("utf-8", "replace"), (time.monotonic() - started) * 1000


def compare(program, files, form):
    """Prints a line for each file, and returns the goals that are missed."""
    all_found = all_words = 0
    missed = []
    print(f"{form:<46}{'words':>7}{'share':>8}{'ms':>7}{'poppler ms':>12}")
    for file in files:
        expected, poppler_ms = output(["pdftotext", "-q", file, "-"])
        expected = words(expected)
        count = sum(expected.values())
        if count == 0:
            continue
        text, ms = output([program, "text", file, "--format", form])
        found = sum((expected & words(text)).values())
        share = found / count
        print(f"{file.name:<46}{count:>7}{share:>8.4f}{ms:>7.0f}{poppler_ms:>12.0f}")
        all_found, all_words = all_found + found, all_words + count
        if count >= WORDS and share < EACH:
            missed.append(f"{form}: {file.name}: {share:.4f} is below {EACH}")
    share = all_found / all_words
    print(f"{'all':<46}{all_words:>7}{share:>8.4f}\n")
    if share < OVERALL:
        missed.append(f"{form}: all: {share:.4f} is below {OVERALL}")
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=PROGRAM, type=pathlib.Path)
    parser.add_argument("--corpus", default=ROOT.parent / "shared/corpus", type=pathlib.Path)
    parser.add_argument("--format", choices=FORMATS, help="this one only")
    arguments = parser.parse_args()
    files = sorted(arguments.corpus.glob("*/*.pdf"))
    if not files:
        print(f"skipped: the comparison needs the PDFs of {arguments.corpus}")
        return 0
    if not arguments.program.exists():
        print(f"{arguments.program} is not there; build it with: cargo build")
        return 69
    if not shutil.which("pdftotext"):
        subprocess.run([ROOT / "scripts/apt-install", "poppler-utils"], check=True)
    formats = [arguments.format] if arguments.format else FORMATS
    missed = [goal for form in formats for goal in compare(arguments.program, files, form)]
    print("\n".join(missed) or "every goal is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

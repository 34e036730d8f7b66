"""The rules of ``test_prose``: phrases to avoid, and what to write instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Rule:
    """A phrase to avoid, what to write instead, and a sentence that it must find."""

    pattern: str
    instead: str
    bad: str

    @property
    def regex(self) -> re.Pattern[str]:
        """The pattern, with any white space where it has a blank: prose is wrapped."""
        return _compiled(self.pattern)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE)


OPENINGS = (
    Rule(r"Whether\b", 'start with the verb: "Return True if …"', "Whether the pod answers."),
    Rule(r"Of\b", 'name the thing, as in "The folder of a session …"', "Of a session with its pod."),
    Rule(r"What\b", 'name the thing, as in "The request that a pod receives."', "What the keeper needs."),
    Rule(r"(Who|Whom|Whose|Whoever)\b", "name the actor", "Who writes: a lease in the bucket."),
    Rule(
        r"(Why|How|Which)\b", 'name the thing, as in "The reason …", "The number of …"', "Why its time was not enough."
    ),
    Rule(r"(Where|When|As|Until)\b[^,?.]*([.:;]|$)", "write a whole sentence", "Where backups are kept."),
    Rule(r"(Told|Those|Somebody|Nobody)\b", "start with the verb, or name the thing", "Those that are known now."),
    Rule(
        r"(None|Empty|False|True) (when|if|for|where|while)\b",
        'start with "Return …, or None if …"',
        "None when it is gone.",
    ),
    Rule(
        r"(NotFound|Conflict|\w*(Failure|Error|Input|Lost|Damaged|Unavailable|Missing))\b"
        r"(:| (when|if|for|where|while)\b)",
        'say what it does first; put "Raises …" at the end',
        "StartupFailure when it cannot be written to.",
    ),
)
"""Openings that make a docstring a fragment."""

PHRASES = (
    Rule(
        r"(?<!if\sthere\s)\b(is|are|was|were|be) (?-i:none)\b",
        'say what is missing or wrong: "does not exist", "is not a …"',
        "that is none",
    ),
    Rule(r"\b(starts?|keeps?|ends|closes|takes) none\b", 'use "no …" or "not … any"', "Start none any more."),
    Rule(
        r"(?<!there\s)\b(is|are|was|were) no "
        r"(?!longer|more|less|different|better|worse|place|substitute|match|way|use)[a-z]+",
        'use "is not a …"',
        "HOST=x is no address of this machine",
    ),
    Rule(r"\bmust stand\b", 'use "must appear", "must not be repeated"', "The header must stand once."),
    Rule(r"\bstands? twice\b", 'use "is repeated"', "the name stands twice"),
    Rule(
        r"\b(stands|stand|stood)\b(?!-in)(?! in[.,;:)])"
        r"(?! (in for|for|by|between|out|up|in the way|in while|in until|in when|in at))",
        'use "is", "is listed", "appears"',
        "The password stands in the file.",
    ),
    Rule(r"\bfor ever\b", 'use "until cancelled" or "forever"', "Renew, for ever."),
    Rule(r"\bat hand\b", 'use "available"', "no key is at hand"),
    Rule(r"\btold\b(?! apart| from)", 'use "notified", "reported", "recorded", "sent"', "it is told of each pod"),
    Rule(
        r"\btells\b(?! (you|apart|people|the caller|the user|the client|the reader|readers|callers|users))",
        'use "reports", "shows", "notifies", "says"',
        "the status tells how far it is",
    ),
    Rule(r"\btell(ing)? of\b", 'use "report", "notify"', "Tell of every change."),
    Rule(r"(?<!other\s)\b(in|into) words\b", 'use "as text"; for the verb, "format"', "Why it failed, in words."),
    Rule(r"\bnobody\b(?! (talks|is using|uses))", "name the actor: no front door, no client, no pod", "Nobody writes."),
    Rule(r"\b(somebody|someone)\b", "name the actor: another front door, a caller", "until somebody takes it"),
    Rule(r"\bwhoever\b", "name the actor: the front door that …, anyone who …", "whoever comes next"),
    Rule(
        r"(^|[.;:] |\b(by|for|from|since|as) )"
        r"who (finds|cannot|can|may|knows|wants|asks|adds|trusts|sees|calls|has|is|does|runs)\b",
        'name the actor: "a front door that …"',
        "left to the one; who finds another ends",
    ),
    Rule(r"\b(count|claim|renew|watch|fit|suspended|want)(s|ed)? no more\b", 'use "no longer"', "fit no more; gone"),
    Rule(r"\bgo(es)? (its|their) way\b", 'use "continues"', "The rest goes its way."),
    Rule(r"\b(be had|had from)\b", 'use "fetched", "obtained", "is available"', "cannot be had from the bucket"),
    Rule(
        r"\b(pods?|address(es)?|claims?|results?|machine|order) counts?\b|\bcounts? (no more|only|for nothing)\b",
        'use "is valid", "is active", "matters"',
        "the pods of this machine count",
    ),
    Rule(r"\bmend(s|ed|ing)?\b", 'use "fix" or "repair"', "no retry mends it"),
    Rule(
        r"\b(lies|lie|lay) (in|on|at|under|there|here|beside|behind|below)\b",
        'use "is", "is stored"',
        "what lies there",
    ),
    Rule(r"\bof ours\b", 'use "our", "our own", or name the owner', "a mistake of ours"),
    Rule(r"\bsettl(e|es|ed|ing)\b", 'say which: "reconcile", "commit", "resolve"', "The sweep settles it."),
    Rule(
        r"\bhow far (it|they|that|a copy|a start|one) (is|are|was|came|comes|got)\b", 'use "progress"', "how far it is"
    ),
    Rule(r"\b(comes?|came) of (it|each|this|that|the)\b", 'use "the result", "the outcome"', "what came of each start"),
    Rule(r"\bdear(er|est)?\b", 'use "expensive"', "the dear part"),
    Rule(r"\bhears? of\b", 'use "is notified"', "the caller hears of it"),
    Rule(r"\bdecides? nothing\b", "say what does not happen", "who cannot tell decides nothing"),
    Rule(r"\b(needs?|have|has) a look\b", 'use "needs to be checked"', "sessions that need a look"),
    Rule(r"\b(stop|stops|stopped|end|ends|ended) in order\b(?! to)", 'use "cleanly"', "the machine stops in order"),
    Rule(r"\b(is|are) (not )?whole\b(?! (micro|number|second))", 'use "complete", "intact"', "none of it is whole"),
    Rule(r"\bso long\b(?! (as|that))", 'use "for that long"', "holds the answer so long"),
    Rule(r"\bwithout end\b", 'use "endless", "without limit"', "tries without end"),
    Rule(r"\bis another one\b|\banother one now\b", 'use "has changed"', "whose trouble is another one now"),
    Rule(r"\bis not there\b|\bare not there\b", 'use "does not exist", "is missing"', "a key that is not there"),
    Rule(r"; there are \{", 'use "known …:"', "there is no class 'x'; there are {names}"),
    Rule(r"\bput into words\b|\bputs? .{1,30} into words\b", 'use "format"', "put into words"),
    Rule(r"\bwithout a word\b(?! of)", 'use "silently"', "ends without a word"),
    Rule(r"\b(it|they|which) (knows|know) (of )?nothing of\b", 'use "has no record of"', "it knows nothing of ours"),
    Rule(r"\bof what it is for\b|\bwhat it is good for\b", "say what it grants or does", "gets what it is good for"),
    Rule(r"\bthe (present|other) ones? (now|then)\b", 'use "current"', "the present one now"),
)
"""Phrases that a native reader stumbles over."""

GOOD = """
There is no such file. There are no sessions. The lease is no longer valid. It is no more than a hint.
A deputy stands in for the operator. UUID stands for something. One front door stands in until it returns.
A stand-in runs here. The standalone server. I understand. Nothing in the way; it stands in the way.
It cannot tell them apart. The page tells you what to do. In other words, it waits. Keep the order of keys.
The pod costs nothing while nobody talks. The method counts messages. counts the rows, and counts as one request.
We recommend a bucket; amend the commit. The database relies on it. It lies about its length.
The retries end in order to save time. As long as it runs, so long as it answers. Try to resolve it.
The user who may write here. Find out who has it. None if it does not exist. none of the pods answers.
Return the newest backup, or None if there is none. Return no more than ten.
When Redis restarts, the generation changes.
"""
"""Legitimate uses that no phrase may match."""

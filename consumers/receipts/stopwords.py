"""Recognises texts by which a person opts out, in many languages.

`consumers.receipts.inbound` asks about every text that comes in. A text that consists of one of the
words is an opt-out. A sentence that contains one is not, because "I cannot stop laughing" is no
opt-out.
"""

import re
import unicodedata

# What carriers in North America require (CTIA), and what providers recognise elsewhere.
_WORDS = """
    stop stopall unsubscribe cancel end quit revoke optout remove
    arret arreter desabonner stopp stoppen abmelden abbestellen
    baja alto parar cancelar detener pare sair basta fermare annulla disiscrivi
    stoppa avsluta afmeld afmelden uitschrijven lopeta slutt
    стоп отписка 停止 退订 取消 中止 توقف
"""
# In small letters and without accents.
STOP_WORDS = frozenset(_WORDS.split()) | {"stop all", "opt out"}

_EDGES = re.compile(r"^[\W_]+|[\W_]+$")


def is_stop(text: str) -> bool:
    """Whether a text as a whole is an opt-out."""
    without_accents = "".join(
        c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)
    )
    plain = " ".join(without_accents.casefold().split())
    return _EDGES.sub("", plain) in STOP_WORDS

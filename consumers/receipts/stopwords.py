"""Words by which a person says that they want no more messages, in the languages we are asked for.

`consumers.receipts.inbound` asks here about every text that comes in. A whole text that is one of
the words is an objection; a sentence that contains one is not, for "I cannot stop laughing" is
none.
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
STOP_WORDS = frozenset(_WORDS.split()) | {"stop all", "opt out"}  # plain: small, without accents

_EDGES = re.compile(r"^[\W_]+|[\W_]+$")


def is_stop(text: str) -> bool:
    """Whether a text, as a whole, asks to be left alone."""
    plain = "".join(
        c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)
    ).casefold()
    return _EDGES.sub("", " ".join(plain.split())) in STOP_WORDS

"""Slots: the 1024 places that messages are spread over by their Kafka key.

`schemas.ids` writes a message's slot into its id, so that the id alone leads to the database that
keeps the message once there is more than one. The slot is the low bits of the hash by which Kafka's
Java clients choose a partition (murmur2 over the bytes of the key): every language has it, and
where a topic's number of partitions divides 1024, the slot modulo that number is the partition.
"""

from struct import Struct

SLOT_BITS = 10
SLOTS = 1 << SLOT_BITS

_MULTIPLIER = 0x5BD1E995
_SEED = 0x9747B28C
_WORD = 0xFFFFFFFF
_LITTLE_ENDIAN = Struct("<I")


def slot_of_key(key: str) -> int:
    """Return the slot, 0 to 1023, of the messages that have this Kafka key."""
    return murmur2(key.encode()) & (SLOTS - 1)


def murmur2(data: bytes) -> int:
    """Return the 32-bit hash of `data` as org.apache.kafka.common.utils.Utils.murmur2 has it.

    Java's int is signed; this is the same 32 bits as an unsigned number.
    """
    whole = len(data) & ~3
    value = _SEED ^ len(data)
    for (word,) in _LITTLE_ENDIAN.iter_unpack(data[:whole]):
        mixed = word * _MULTIPLIER & _WORD
        mixed ^= mixed >> 24
        value = (value * _MULTIPLIER ^ mixed * _MULTIPLIER) & _WORD
    if rest := data[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * _MULTIPLIER & _WORD
    value ^= value >> 13
    value = value * _MULTIPLIER & _WORD
    return value ^ value >> 15

"""A topic from its beginning to its end, by a consumer that shares no code with ours."""

from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, Message, TopicPartition

__all__ = ["messages"]

PATIENCE: Final = 10.0  # s for one answer of the broker


def messages(bootstrap: str, topic: str, group: str) -> Iterator[Message]:
    """Give what it holds now, partition by partition.

    Raises `RuntimeError` when the broker does not hand out all of it.
    """
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    try:
        for number in consumer.list_topics(topic, PATIENCE).topics[topic].partitions:
            place = TopicPartition(topic, number)
            start, end = consumer.get_watermark_offsets(place, PATIENCE)
            consumer.assign([TopicPartition(topic, number, start)])
            while start < end:
                message = consumer.poll(PATIENCE)
                if message is None or message.error():
                    raise RuntimeError(f"{topic} cannot be read to its end")
                start = (message.offset() or 0) + 1
                yield message
    finally:
        consumer.close()

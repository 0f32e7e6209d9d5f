"""Microsoft's Python client as an independent witness of the emulator and of the hub source.

  hub_witness.py publish CONNECTION_STRING HUB FILE [--partition ID | --key KEY] [--single]
      Publishes each line of FILE as an event; prints how many.
  hub_witness.py read CONNECTION_STRING HUB all
  hub_witness.py read CONNECTION_STRING HUB COUNT --partition ID [--from earliest|OFFSET|TIME]
      Prints the events, one a line: partition, sequence number, offset, time, body (tab-separated).
  hub_witness.py check CONNECTION_STRING HUB FILE
      Publishes FILE and reads it back from the earliest, from an offset, from a sequence number and
      from a time, with a partition key and with owner levels. Says `witness: ok` and exits with 0
      if all agree.

CONNECTION_STRING is what `lanner emulator` prints. Needs azure-eventhub from PyPI.
"""

import argparse
import datetime
import sys
import threading
import time

from azure.eventhub import EventData, EventHubConsumerClient, EventHubProducerClient
from azure.eventhub._pyamqp import _platform

# The client sets the segment size that it has just read from the socket, which Linux refuses on
# loopback now and then; each time it would wait for half a minute.
_platform.KNOWN_TCP_OPTS.discard("TCP_MAXSEG")

PATIENCE = 60
GROUP = "$Default"


def publish(connection, hub, lines, partition=None, key=None, single=False):
    """Sends each line as an event, in as few batches as they fit into."""
    producer = EventHubProducerClient.from_connection_string(connection, eventhub_name=hub)
    with producer:
        if single:
            for line in lines:
                producer.send_event(EventData(line), partition_id=partition, partition_key=key)
            return
        batch = producer.create_batch(partition_id=partition, partition_key=key)
        for line in lines:
            try:
                batch.add(EventData(line))
            except ValueError:
                producer.send_batch(batch)
                batch = producer.create_batch(partition_id=partition, partition_key=key)
                batch.add(EventData(line))
        if len(batch):
            producer.send_batch(batch)


def read(connection, hub, count, partition, start="-1", inclusive=False, owner_level=None):
    """Receives until there are `count` events of the partition; returns (partition, event) pairs."""
    consumer = EventHubConsumerClient.from_connection_string(
        connection, consumer_group=GROUP, eventhub_name=hub, load_balancing_interval=1
    )
    events = []
    errors = []
    enough = threading.Event()

    def on_event(context, event):
        events.append((context.partition_id, event))
        if len(events) >= count:
            enough.set()

    def on_error(context, error):
        errors.append(error)

    arguments = {
        "on_event": on_event,
        "on_error": on_error,
        "starting_position": start,
        "starting_position_inclusive": inclusive,
        "owner_level": owner_level,
        "partition_id": partition,
    }
    thread = threading.Thread(target=consumer.receive, kwargs=arguments, daemon=True)
    thread.start()
    came = enough.wait(PATIENCE)
    # A moment more shows events that ought not to come.
    time.sleep(0.5)
    consumer.close()
    thread.join(10)
    if not came:
        raise SystemExit(f"witness: {len(events)} of {count} events came; errors: {errors}")
    return events


def partitions_of(connection, hub):
    """The properties of all partitions, by id."""
    consumer = EventHubConsumerClient.from_connection_string(
        connection, consumer_group=GROUP, eventhub_name=hub
    )
    with consumer:
        properties = consumer.get_eventhub_properties()
        assert properties["eventhub_name"] == hub, properties
        return {id: consumer.get_partition_properties(id) for id in properties["partition_ids"]}


def kept(properties):
    """How many events a partition holds."""
    if properties["is_empty"]:
        return 0
    last, begin = "last_enqueued_sequence_number", "beginning_sequence_number"
    return properties[last] + 1 - properties[begin]


def read_all(connection, hub):
    """All events of all partitions, one partition after the other: together the client takes three
    a second."""
    events = []
    for id, properties in partitions_of(connection, hub).items():
        if kept(properties):
            events += read(connection, hub, kept(properties), id)
    return events


def bodies(events):
    return [event.body_as_str() for _, event in events]


def expect(what, got, wanted):
    if got != wanted:
        raise SystemExit(f"witness: {what}: {len(got)} events, wanted {len(wanted)}: {got[:3]}…")
    print(f"{what}: ok", file=sys.stderr)


def check(connection, hub, lines):
    before = partitions_of(connection, hub)
    first = next(iter(before))
    last = before[first]["last_enqueued_sequence_number"]

    half = len(lines) // 2
    publish(connection, hub, lines[:half], partition=first)
    time.sleep(0.05)
    moment = datetime.datetime.now(datetime.timezone.utc)
    time.sleep(0.05)
    publish(connection, hub, lines[half:], partition=first)

    def read_first(count, **start):
        return read(connection, hub, count, first, **start)

    all_before = kept(before[first])
    earliest = read_first(all_before + len(lines))
    expect("from the earliest", bodies(earliest)[all_before:], lines)
    numbers = [event.sequence_number for _, event in earliest]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers
    times = [event.enqueued_time for _, event in earliest]
    assert times == sorted(times)

    third = earliest[all_before + len(lines) // 3 - 1][1]
    rest = lines[len(lines) // 3 :]
    expect("from an offset", bodies(read_first(len(rest), start=third.offset)), rest)
    expect(
        "from a sequence number",
        bodies(read_first(len(rest) + 1, start=third.sequence_number, inclusive=True))[1:],
        rest,
    )
    expect("from a time", bodies(read_first(len(lines) - half, start=moment)), lines[half:])

    publish(connection, hub, lines[:5], key="a key", single=True)
    publish(connection, hub, lines[:5], key="a key")
    everything = read_all(connection, hub)
    keyed = [(id, event) for id, event in everything if event.partition_key == b"a key"]
    assert len({id for id, _ in keyed}) == 1, keyed
    expect("by a partition key", bodies(keyed)[-10:], lines[:5] * 2)

    owned = read_first(all_before + len(lines), owner_level=3)
    expect("with an owner level", bodies(owned)[all_before : all_before + len(lines)], lines)
    after = partitions_of(connection, hub)[first]
    assert after["last_enqueued_sequence_number"] >= last + len(lines), after
    assert not after["is_empty"], after
    print("witness: ok")


def position(text):
    """`earliest`, an offset, or a time."""
    if text == "earliest":
        return "-1"
    if text.lstrip("-").isdigit():
        return text
    return datetime.datetime.fromisoformat(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["publish", "read", "check"])
    parser.add_argument("connection")
    parser.add_argument("hub")
    parser.add_argument("file_or_count")
    parser.add_argument("--partition")
    parser.add_argument("--key")
    parser.add_argument("--single", action="store_true")
    parser.add_argument("--from", dest="start", default="earliest")
    arguments = parser.parse_args()

    if arguments.command == "read":
        connection, hub = arguments.connection, arguments.hub
        if arguments.file_or_count == "all":
            events = read_all(connection, hub)
        else:
            count, start = int(arguments.file_or_count), position(arguments.start)
            events = read(connection, hub, count, arguments.partition or "0", start=start)
        for id, event in events:
            body = event.body_as_str()
            print(id, event.sequence_number, event.offset, event.enqueued_time.isoformat(), body, sep="\t")
        return
    with open(arguments.file_or_count, encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in file if line.strip()]
    if arguments.command == "check":
        check(arguments.connection, arguments.hub, lines)
    else:
        publish(
            arguments.connection,
            arguments.hub,
            lines,
            partition=arguments.partition,
            key=arguments.key,
            single=arguments.single,
        )
        print(len(lines))


if __name__ == "__main__":
    main()

"""A tool that writes, limited and approved: a program that calls it in a loop does not get far.

python examples/approvals.py
"""

from dspex import CodeExecutor, Tool, ToolCall

PROGRAM = """
sent = 0
for n in range(50):
    try:
        send_mail(f"user{n}@example.org", "hello")
        sent += 1
    except PermissionError as refusal:
        print(refusal)
        if "no more" in str(refusal):
            break
sent
"""


def approve(call: ToolCall) -> bool | str:
    """Ask a person here; this one says no to every third address."""
    return call.number % 3 != 0 or f"{call.arguments['to']} is not on the list"


def main() -> None:
    """Run the program and show what was asked for and what came of it."""
    outbox: list[str] = []

    def send_mail(to: str, text: str) -> int:
        """Send a mail; returns how many were sent so far."""
        outbox.append(to)
        return len(outbox)

    with CodeExecutor() as executor:
        result = executor.execute(PROGRAM, tools=[Tool(send_mail, max_calls=5, approve=approve)])
    print(result.stdout, end="")
    print(f"{result.value} were sent, {result.tool_call_count} were asked for: {', '.join(outbox)}")


if __name__ == "__main__":
    main()

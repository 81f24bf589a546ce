"""The examples with which the --help of each command ends. A test parses every one of them."""

from __future__ import annotations

# By command: what somebody wants, and the arguments that do it.
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "generate": (
        ("Make one clip in the folder clips", "generate 'a red apple on a wooden table'"),
        (
            "Start from an image, in portrait format, in another folder",
            "generate 'it sails' --image boat.jpg --aspect-ratio 9:16 -o boat",
        ),
        ("Try it without a key, at no cost", "generate 'a harbour at dawn' --sandbox"),
    ),
    "batch": (
        ("Make a clip for every line of a file; the same command again continues", "batch prompts.csv -o clips"),
        ("Show what it would cost, and send nothing", "batch prompts.csv -o clips --dry-run"),
        ("Spend at most 20 USD, and watch in a browser", "batch prompts.jsonl -o clips --max-cost 20 --serve"),
    ),
    "status": (
        ("Show what needs attention, and the totals", "status clips"),
        ("Follow a run of another process", "status clips --watch"),
        ("List the failed jobs for a program", "status clips --status failed --json"),
    ),
    "resume": (
        ("Continue everything that is unfinished", "resume clips"),
        ("Submit failed jobs again, within a limit", "resume clips --retry-failed --max-cost 10"),
    ),
    "fetch": (
        ("Download the clip of a task that another program submitted", "fetch task_01JZX5T2K8 -o clips"),
        (
            "Wait for several tasks, and print what became of each as JSON",
            "fetch task_01JZX5T2K8 task_01JZX5T2K9 --json",
        ),
    ),
    "reconcile": (
        ("Check that everything was billed once, and nothing else", "reconcile clips"),
        (
            "Several folders that use the same key, days as in Paris",
            "reconcile clips more-clips --time-zone Europe/Paris",
        ),
        ("Compare with everything billed to the account, for a program", "reconcile clips --account --json"),
    ),
    "gallery": (
        ("Write clips/gallery.html", "gallery clips"),
        ("Print only its path, for a script", "gallery clips --quiet"),
    ),
    "export": (
        ("Write clips/metadata.jsonl, with which datasets.load_dataset loads the folder", "export clips"),
        ("A table for a spreadsheet", "export clips --format csv"),
    ),
    "models": (
        ("Show what each model accepts; with a key, also whether the server offers it", "models"),
        ("The same for a program", "models --json"),
    ),
    "balance": (
        ("Show what is left for this key and for the account", "balance"),
        ("Ask another server of the same API", "balance --base-url https://api.apib.ai"),
    ),
    "check": (
        ("Check that everything is set up", "check"),
        ("Check that the server offers this model", "check --model gemini-omni-1.1-flash"),
    ),
    "sandbox": (
        ("Serve on a free port, and print the two variables that lead clients there", "sandbox"),
        ("An account that is limited by rate and by credit", "sandbox --per-minute 30 --credits 50"),
        ("Lose the response to every fifth submit", "sandbox --port 8080 --fault drop_after=0.2"),
    ),
    "fleet": (
        ("See it at work on this machine, without a key and at no cost", "fleet demo"),
        ("Add jobs; OMNI_DATABASE_URL=postgresql://... names the database", "fleet enqueue prompts.jsonl"),
        ("Run the same command on every machine", "fleet worker --store /mnt/clips"),
    ),
    "fleet init": (
        ("Prepare the database that OMNI_DATABASE_URL names", "fleet init"),
        ("See what that would do", "fleet init --dry-run"),
    ),
    "fleet enqueue": (
        ("Add a job for every line; running it again adds only new lines", "fleet enqueue prompts.jsonl"),
        ("Its local images are put where every worker finds them", "fleet enqueue cats.csv --store s3://bucket/clips"),
    ),
    "fleet worker": (
        ("Submit and download: the same command on every machine", "fleet worker --store /mnt/clips"),
        (
            "Only download, without an API key",
            "fleet worker --store s3://bucket/clips --role download",
        ),
        (
            "Finish all jobs, then end; spend at most 100 USD in total",
            "fleet worker --store /mnt/clips --until-done --max-cost 100",
        ),
    ),
    "fleet status": (
        ("Show the sums, the leader and the workers", "fleet status"),
        ("Follow them", "fleet status --watch"),
        ("Print them for a program", "fleet status --json"),
    ),
    "fleet pause": (
        ("Submit nothing more for now", "fleet pause"),
        ("The same for one of several accounts", "fleet pause --account second"),
    ),
    "fleet resume": (
        ("Continue after a pause, or after topping up the account", "fleet resume"),
        ("Submit again what has failed", "fleet resume --retry-failed"),
        ("Continue after a failover of the database that lost nothing", "fleet resume --confirm-failover"),
    ),
    "fleet drain": (
        ("Finish what is accepted, and submit nothing more", "fleet drain"),
        ("The same for one of several accounts", "fleet drain --account second"),
    ),
    "fleet gallery": (
        ("Write the page into the folder of the fleet's clips", "fleet gallery"),
        ("If that folder is mounted elsewhere on this machine", "fleet gallery /mnt/clips"),
    ),
    "fleet download": (
        ("Get all clips and a ledger.db", "fleet download clips"),
        ("From a store that has another path on this machine", "fleet download clips --store /mnt/clips"),
    ),
    "fleet demo": (
        ("Watch 60 clips being made by three workers, one of them killed", "fleet demo"),
        ("More of them, and keep the clips", "fleet demo --clips 200 --output clips"),
    ),
}


def examples_of(command: str) -> str:
    """Return the examples of a command as the last lines of its help."""
    lines = [
        line
        for purpose, arguments in EXAMPLES[command]
        for line in (f"   # {purpose}", f"   omni-async {arguments}", "")
    ]
    return "\n".join([" Examples:", "", *lines])

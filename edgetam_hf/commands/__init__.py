"""What the commands of `edgetam` do, a file for each: `run(options)` returns a report, `as_text(report)` shows it."""

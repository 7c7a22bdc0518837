# Short names for what CONTRIBUTING.md describes. Run `just` to list them.

_default:
    @just --list

# Run the tests; arguments are pytest's, such as `--full` or a file.
test *arguments:
    uv run pytest {{ arguments }}

# Measure which lines and branches the tests run; arguments are pytest's, such as `--full`.
coverage *arguments:
    uv run --group coverage pytest --cov {{ arguments }}

# Check lint, format, types and import contracts.
lint:
    uv run ruff check
    uv run ruff format --check
    uv run mypy
    uv run lint-imports

# Format the code.
format:
    uv run ruff check --fix
    uv run ruff format

# Build the documentation in docs/_build/html, with warnings as errors.
docs:
    uv run --group docs sphinx-build -W --keep-going -n -q -b html docs docs/_build/html

# Run the benchmarks; arguments are those of `python -m benchmarks`.
bench *arguments:
    uv run python -m benchmarks {{ arguments }}

# Run what CI runs.
ci:
    .ci/run

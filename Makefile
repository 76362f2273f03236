# One list of commands; CI calls it too.
.PHONY: check fmt clippy deny test deb bench

check: fmt clippy deny test

fmt:
	cargo fmt --check

clippy:
	cargo clippy --all-targets --locked -- -D warnings

deny:
	@if command -v cargo-deny >/dev/null; then cargo deny --offline check bans licenses sources; \
	else echo "cargo-deny is not installed: dependency rules not checked"; fi

# The README's test command.
test:
	cargo test

# The Debian package, in target/debian. Needs cargo-deb.
deb:
	packaging/build

bench:
	cargo bench --bench throughput

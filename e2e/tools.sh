#!/usr/bin/env bash
# Installs the pinned clients of other languages, and Azurite, into .tools, which git ignores. What is there and was installed from the
# same lock file is left alone, so a second run needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."
clients=$PWD/e2e/clients
tools=$PWD/.tools

# need WHAT TEST PACKAGE... installs Debian's packages if the test fails. Only root can; others are told.
need() {
	local what=$1 test=$2
	shift 2
	if eval "$test" >/dev/null 2>&1; then return; fi
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		export DEBIAN_FRONTEND=noninteractive
		apt-get update -qq </dev/null >&2 && apt-get install -qq -y --no-install-recommends "$@" </dev/null >&2 || true
		if eval "$test" >/dev/null 2>&1; then return; fi
	fi
	echo "tools: $what is needed; on Debian, as root: apt-get install $*" >&2
	exit 1
}

# fresh TOOL LOCK: is TOOL installed from this lock file?
fresh() { [ "$(cat "$tools/$1/stamp" 2>/dev/null)" = "$(sum "$2")" ]; }
sum() { sha256sum "$1" | cut -d' ' -f1; }

need_python() {
	need "Python 3.11 or newer" "python3 -c 'import sys; assert sys.version_info >= (3, 11)'" python3
	need "the Python module venv" "python3 -c 'import ensurepip, venv'" python3-venv
}

# python_install TOOL LOCK makes a virtual environment from a lock file.
python_install() {
	local tool=$1 lock=$2
	rm -rf "${tools:?}/$tool"
	python3 -m venv "$tools/$tool"
	"$tools/$tool/bin/pip" install --quiet --no-input --require-hashes --only-binary :all: -r "$lock" </dev/null
	sum "$lock" >"$tools/$tool/stamp"
}

# installed TOOL LOCK MODULES: is TOOL there, from this lock file, and does its Python, which lies outside, still run?
installed() { fresh "$1" "$2" && "$tools/$1/bin/python" -c "import $3"; }

python_clients() {
	local lock=$clients/python/requirements.txt
	if installed python "$lock" azure.keyvault.keys,azure.mgmt.keyvault; then return; fi
	need_python
	python_install python "$lock"
}

# az has a virtual environment of its own: it pins other versions of the same clients. Its 150 packages take longer than all
# the rest, so they are installed beside the rest.
az_client() {
	local lock=$clients/python/requirements-az.txt
	if installed az "$lock" azure.cli.core; then return; fi
	need_python
	python_install az "$lock" &
	az_installation=$!
}

# node_install TOOL installs from the lock file of that name: the clients (node), the storage for backups (azurite), or a program
# made with the clients for .NET (dotnet).
node_install() {
	local tool=$1 lock=$clients/$1/package-lock.json
	if fresh "$tool" "$lock"; then return; fi
	need "Node 20 or newer" "node -e 'process.exit(+(parseInt(process.versions.node) < 20))'" nodejs
	need npm 'npm --version' npm
	rm -rf "${tools:?}/$tool"
	mkdir -p "$tools/$tool"
	cp "$clients/$tool/package.json" "$lock" "$tools/$tool/"
	(cd "$tools/$tool" && npm ci --ignore-scripts --no-audit --no-fund --omit-lockfile-registry-resolved --loglevel=error </dev/null)
	sum "$lock" >"$tools/$tool/stamp"
}

# Maven keeps what it has fetched in .tools too, so that a second run with another lock file fetches only what is new.
java_clients() {
	local lock=$clients/java/dependencies.sha256
	if fresh java "$lock"; then return; fi
	need "a JDK of Java 17 or newer" "javac -version 2>&1 | grep -E 'javac (1[7-9]|[2-9][0-9])'" default-jdk-headless
	need Maven 'mvn --version' maven
	rm -rf "$tools/java"
	mkdir -p "$tools/java"
	cp "$clients/java/pom.xml" "$tools/java/"
	mvn --quiet --batch-mode -Dstyle.color=never --file "$tools/java/pom.xml" "-Dmaven.repo.local=$tools/maven" \
		org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
		-DoutputDirectory="$tools/java/lib" -DincludeScope=runtime </dev/null
	(cd "$tools/java/lib" && sha256sum --check --quiet --strict "$lock" && [ "$(ls | wc -l)" = "$(wc -l <"$lock")" ]) || {
		echo "tools: the Java clients are not those of $lock" >&2
		exit 1
	}
	sum "$lock" >"$tools/java/stamp"
}

mkdir -p "$tools"
need make 'command -v make' make
need curl 'command -v curl' curl
need "a C compiler, for Go's race detector," 'command -v "${CC:-gcc}"' gcc libc6-dev
need openssl 'openssl version' openssl
need "OpenSSL 3's headers, for the build with the tag openssl," 'echo "#include <openssl/evp.h>" | "${CC:-gcc}" -E -' libssl-dev
az_installation=
az_client
python_clients
node_install node
node_install azurite
node_install dotnet
java_clients
if [ -n "$az_installation" ]; then wait "$az_installation"; fi

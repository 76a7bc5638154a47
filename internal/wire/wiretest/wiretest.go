// Package wiretest is what the tests of the planes have in common: scripts of requests and the answers that they get, and a way
// of comparing the shapes of answers.
package wiretest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Update is the flag -update: what is expected is written instead of compared.
var Update = flag.Bool("update", false, "rewrite the expected answers in testdata/wire and the documents that are generated")

// Play plays a script: a list of exchanges, with comments and blank lines between them.
//
//	> GET /path     the request, in lines of the caller's choice
//	> Header: value
//	< 200           what the request was answered with
//	< {"value":1}
//
// do makes a request and returns the lines of its answer. What the script says about it is there for it to see which
// headers are of interest. The test fails if the answers are not those in the script.
func Play(t *testing.T, path string, do func(request, said []string) []string) {
	t.Helper()
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	write := func(prefix string, lines []string) {
		for _, l := range lines {
			fmt.Fprintln(&out, prefix+l)
		}
	}
	lines := strings.Split(strings.TrimRight(string(script), "\n"), "\n")
	for len(lines) > 0 {
		n := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, ">") })
		if n < 0 {
			n = len(lines)
		}
		write("", lines[:n])
		lines = lines[n:]
		request := take(&lines, "> ")
		said := take(&lines, "< ")
		if len(request) > 0 {
			write("> ", request)
			write("< ", do(request, said))
		}
	}
	if *Update {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(string(script), out.String()); diff != "" {
		t.Errorf("%s: answers differ (-want +got):\n%s", path, diff)
	}
}

// take removes the leading lines with the prefix and returns them without it.
func take(lines *[]string, prefix string) (out []string) {
	for len(*lines) > 0 && strings.HasPrefix((*lines)[0], prefix) {
		out = append(out, strings.TrimPrefix((*lines)[0], prefix))
		*lines = (*lines)[1:]
	}
	return out
}

// Document compares a generated document with the file that holds it.
func Document(t *testing.T, path, want string) {
	t.Helper()
	if *Update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("%s is not what it is generated from (-is +should be):\n%s", path, diff)
	}
}

// Members lists the paths of a document's members in their order, with the types of their values, without those that are
// left out. Of a list it has the first element's.
func Members(t testing.TB, document []byte, left []string) (out []string) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(document))
	token := func() json.Token {
		tok, err := dec.Token()
		if err != nil {
			t.Fatalf("%s: %v", document, err)
		}
		return tok
	}
	var value func(path string, quiet bool)
	value = func(path string, quiet bool) {
		tok := token()
		switch tok {
		case json.Delim('{'):
			for dec.More() {
				name := strings.TrimPrefix(path+"."+token().(string), ".")
				value(name, quiet || slices.Contains(left, strings.TrimPrefix(name, "value[].")))
			}
			token()
		case json.Delim('['):
			for first := true; dec.More(); first = false {
				value(path+"[]", quiet || !first)
			}
			token()
		default:
			if !quiet {
				out = append(out, fmt.Sprintf("%s %T", path, tok))
			}
		}
	}
	value("", false)
	return out
}

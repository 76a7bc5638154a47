package record_test

import (
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/record"
)

type thing struct {
	record.Format
	Name string `json:"name"`
}

func TestDecode(t *testing.T) {
	t.Parallel()
	got, err := record.Decode[thing]([]byte(`{"v":1,"name":"a"}`))
	if err != nil || *got != (thing{record.Current(), "a"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for text, want := range map[string]string{
		`{"v":2,"name":"a"}`:          "use a newer release",
		`{"name":"a"}`:                "has format 0",
		`{"v":1,"name":"a","more":1}`: "unknown field",
		`{"v":1,"name":`:              "EOF",
		``:                            "EOF",
	} {
		if _, err := record.Decode[thing]([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestNewID(t *testing.T) {
	t.Parallel()
	if a, b := record.NewID(), record.NewID(); a == b || len(a) != 32 {
		t.Errorf("%s and %s", a, b)
	}
}

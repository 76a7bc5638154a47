package admission

import (
	"errors"
	"testing"
)

func TestBound(t *testing.T) {
	t.Parallel()
	a := New(2)
	one, err1 := a.Enter("x")
	two, err2 := a.Enter("x")
	if _, err := a.Enter("x"); err1 != nil || err2 != nil || !errors.Is(err, ErrThrottled) {
		t.Errorf("%v, %v, %v", err1, err2, err)
	}
	if _, err := a.Enter("y"); err != nil {
		t.Errorf("another principal: %v", err)
	}
	one()
	two()
	if _, there := a.inFlight["x"]; there {
		t.Error("a principal without requests is remembered")
	}
}

package keyvault

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestParsePeriod(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]period{
		"P1Y": {1, 0, 0}, "P18M": {0, 18, 0}, "P90D": {0, 0, 90}, "P2W": {0, 0, 14}, "P1Y2M3W4D": {1, 2, 25},
		"P0D": {}, "P007D": {0, 0, 7}, "P100Y": {100, 0, 0}, "P36600D": {0, 0, 36600},
	} {
		if got, err := parsePeriod(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "P", "P1", "1D", "D", "PD", "P1D ", " P1D", "P1D\n", "p1d", "P1d", "-P1D", "P-1D", "P+1D", "P1.5D", "P1,5D", "P 1D", "P1D1Y",
		"P1D1D", "P1M1Y", "PT1H", "P1DT1H", "P1DT", "P1S", "P１D", "P1D\x00", "P1Y2", "P99999999999999999999D", "P00000090D",
		"P9999Y", "P101Y", "P36601D", "P9999W", "P9999M", "P2024-01-01", strings.Repeat("P1D", 100_000),
	} {
		if got, err := parsePeriod(text); err == nil {
			t.Errorf("%.40q is %+v", text, got)
		}
	}
}

// TestPeriodArithmetic counts in the calendar: a month has as many days as it has, and what overflows one goes on in the
// next.
func TestPeriodArithmetic(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, period, after, before string }{
		{"2023-11-14", "P30D", "2023-12-14", "2023-10-15"},
		{"2024-01-15", "P1M", "2024-02-15", "2023-12-15"},
		{"2024-01-31", "P1M", "2024-03-02", "2023-12-31"},
		{"2023-03-31", "P1M", "2023-05-01", "2023-03-03"},
		{"2024-02-29", "P1Y", "2025-03-01", "2023-03-01"},
		{"2024-02-29", "P4Y", "2028-02-29", "2020-02-29"},
		{"2023-12-31", "P1D", "2024-01-01", "2023-12-30"},
		{"2023-07-01", "P1Y1M1W1D", "2024-08-09", "2022-05-24"},
		{"1970-01-02", "P1Y", "1971-01-02", "1970-01-01"}, // the clock's beginning
		{"9999-12-01", "P1M", "9999-12-31", "9999-11-01"}, // and its end
	} {
		const day = "2006-01-02"
		from, err := time.Parse(day, c.from)
		if err != nil {
			t.Fatal(err)
		}
		p, err := parsePeriod(c.period)
		if err != nil {
			t.Fatal(err)
		}
		show := func(unix int64) string { return time.Unix(unix, 0).UTC().Format(day) }
		if got := show(p.after(from.Unix())); got != c.after {
			t.Errorf("%s after %s is %s, want %s", c.period, c.from, got, c.after)
		}
		if got := show(p.before(from.Unix())); got != c.before {
			t.Errorf("%s before %s is %s, want %s", c.period, c.from, got, c.before)
		}
	}
}

// TestRotationHasRoom draws policies and days at random: whatever units a policy is in, it neither rotates a version about
// when it is made, which would have no end, nor about when it expires.
func TestRotationHasRoom(t *testing.T) {
	t.Parallel()
	const seed, least = 5, 2 * secondsPerDay
	rng := rand.New(rand.NewPCG(seed, 0))
	draw := func() string {
		text := "P"
		for unit, most := range map[string]int{"Y": 6, "M": 40, "D": 400} {
			if rng.IntN(2) == 0 {
				text += fmt.Sprint(rng.IntN(most), unit)
			}
		}
		return text
	}
	policies := []RotationPolicy{
		{ExpiryTime: "P2Y", Actions: []LifetimeAction{{Action: ActionRotate, BeforeExpiry: "P24M"}}},
		{ExpiryTime: "P2Y", Actions: []LifetimeAction{{Action: ActionRotate, AfterCreate: "P24M"}}},
		{ExpiryTime: "P100Y", Actions: []LifetimeAction{{Action: ActionRotate, BeforeExpiry: "P1210M"}}},
	}
	for range 12_000 {
		a := LifetimeAction{Action: ActionRotate}
		if *[]*string{&a.AfterCreate, &a.BeforeExpiry}[rng.IntN(2)] = draw(); rng.IntN(4) == 0 {
			life, err := parsePeriod(draw()) // about as long as the trigger
			if err == nil {
				policies = append(policies, RotationPolicy{ExpiryTime: fmt.Sprintf("P%dD", life.nominalDays()),
					Actions: []LifetimeAction{{Action: ActionRotate, BeforeExpiry: fmt.Sprintf("P%dY%dM%dD", life.years, life.months, max(0, life.days-7))}}})
			}
		}
		policies = append(policies, RotationPolicy{ExpiryTime: draw(), Actions: []LifetimeAction{a}})
	}
	accepted := 0
	for _, p := range policies {
		if p.normalize() != nil {
			continue
		}
		accepted++
		created := rng.Int64N(40 * 365 * secondsPerDay)
		life, err := parsePeriod(p.ExpiryTime)
		if err != nil {
			continue // it has none
		}
		expires := life.after(created)
		at := p.Actions[0].at(&versionRecord{Created: created, Expires: &expires})
		if at-created < least || expires-at < least {
			t.Fatalf("under %+v a version of %v that expires on %v is rotated on %v", p, time.Unix(created, 0).UTC(),
				time.Unix(expires, 0).UTC(), time.Unix(at, 0).UTC())
		}
	}
	if accepted < 500 {
		t.Errorf("only %d policies were accepted", accepted)
	}
}

package keyvault

import (
	"errors"
	"regexp"
	"strconv"
	"time"
)

// A period is a duration of ISO 8601 in calendar units: "P1Y6M", "P90D". Its length depends on when it begins.
type period struct{ years, months, days int }

var periodForm = regexp.MustCompile(`^P(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?$`)

var errPeriod = errors.New(`a duration of ISO 8601 in years, months, weeks and days is needed: "P1Y", "P18M", "P90D"`)

// maxPeriodDays keeps every time that is computed within what clients' date types can hold.
const maxPeriodDays = 100 * 366

func parsePeriod(text string) (period, error) {
	m := periodForm.FindStringSubmatch(text)
	if m == nil || text == "P" {
		return period{}, errPeriod
	}
	var n [4]int
	for i := range n {
		if m[i+1] != "" {
			n[i], _ = strconv.Atoi(m[i+1]) // some digits
		}
	}
	p := period{years: n[0], months: n[1], days: 7*n[2] + n[3]}
	if p.nominalDays() > maxPeriodDays {
		return period{}, errors.New("it is longer than a hundred years")
	}
	return p, nil
}

// nominalDays is the length for comparisons between periods, with months as long as they are on average. So a year counts
// as twelve months: were it longer, a policy could rotate keys that live for two years 24 months before they expire, which
// is at once and without end.
func (p period) nominalDays() int {
	const months, days = 400 * 12, 146097 // of a cycle of the calendar
	return (12*p.years+p.months)*days/months + p.days
}

// after returns the time that lies p after unix, before the one that lies p before it; both within bounds.
func (p period) after(unix int64) int64 {
	return clampTime(time.Unix(unix, 0).UTC().AddDate(p.years, p.months, p.days).Unix())
}

func (p period) before(unix int64) int64 {
	return clampTime(time.Unix(unix, 0).UTC().AddDate(-p.years, -p.months, -p.days).Unix())
}

func clampTime(unix int64) int64 { return min(max(unix, 1), maxTime) }

package record

import (
	"context"
	"errors"
	"fmt"

	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// Each calls visit for each record of a range, outside of any transaction. It reads in bounded snapshots, so what is changed
// meanwhile is seen in either state. A record that does not open is handed to bad and passed over.
func Each(ctx context.Context, db store.DB, start, end string, bad func(error), visit func(store.Entry)) error {
	const batch = 100
	for more := true; more; {
		var entries []store.Entry
		err := db.View(ctx, func(r store.Reader) error {
			more = false
			for e, err := range r.Scan(start, end) {
				if err != nil {
					return err
				}
				if len(entries) == batch {
					more = true
					break
				}
				entries = append(entries, e)
				start = e.Key + "\x00"
			}
			return nil
		})
		var spoiled *seal.RecordError
		switch {
		case errors.As(err, &spoiled) && spoiled.Key >= start:
			bad(err)
			start, more = spoiled.Key+"\x00", true
		case err != nil:
			return err
		}
		for _, e := range entries {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			visit(e)
		}
	}
	return nil
}

// Good yields the records of a range in one snapshot, without those that do not open.
func Good(r store.Reader, start, end string, visit func(store.Entry) error) error {
	for more := true; more; {
		more = false
		for e, err := range r.Scan(start, end) {
			var spoiled *seal.RecordError
			if errors.As(err, &spoiled) && spoiled.Key >= start {
				start, more = spoiled.Key+"\x00", true
				break
			}
			if err != nil {
				return err
			}
			if err := visit(e); err != nil {
				return err
			}
			start = e.Key + "\x00"
		}
	}
	return nil
}

// DueTime begins the keys of what is due at a time. Times have as many digits as the year 9999 needs, so that their byte
// order is their order in time.
func DueTime(unix int64) string { return fmt.Sprintf("due/%012d/", unix) }

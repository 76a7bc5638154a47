package main

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"time"
)

// repeat is a limit that this process reaches alone, one operation at a time.
func repeat(ctx context.Context, d time.Duration, do func() error) (sample, error) {
	before, err := processorTime()
	if err != nil {
		return sample{}, err
	}
	began := time.Now()
	latencies, err := driveOne(ctx, &exchange{do: do, close: func() error { return nil }}, began.Add(d))
	if err != nil {
		return sample{}, err
	}
	wall := time.Since(began)
	after, err := processorTime()
	if err != nil {
		return sample{}, err
	}
	return summarize(latencies, wall, after-before), nil
}

const (
	diskPage = 4096
	diskSize = 4 << 20
)

// disk writes single pages over a file whose blocks are there already, and waits for each: the least that a durable write
// can cost.
type disk struct {
	file *os.File
	page []byte
	at   int64
}

func newDisk(path string) (*disk, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(make([]byte, diskSize))
	if err = errors.Join(err, f.Sync()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	page := make([]byte, diskPage)
	rand.Read(page)
	return &disk{file: f, page: page}, nil
}

func (d *disk) measure(ctx context.Context, length time.Duration) (sample, error) {
	return repeat(ctx, length, func() error {
		if _, err := d.file.WriteAt(d.page, d.at); err != nil {
			return err
		}
		d.at = (d.at + diskPage) % diskSize
		return dataSync(d.file)
	})
}

func (d *disk) close() error { return d.file.Close() }

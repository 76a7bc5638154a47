package hsm_test

import (
	"testing"

	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/hsm/hsmtest"
)

func TestSoftware(t *testing.T) {
	t.Parallel()
	hsmtest.Run(t, hsm.NewSoftware(hsm.SoftwareConfig{}))
}

func TestWycheproof(t *testing.T) {
	t.Parallel()
	hsmtest.Wycheproof(t, hsm.NewSoftware(hsm.SoftwareConfig{Workers: 2, Queue: 100}))
}

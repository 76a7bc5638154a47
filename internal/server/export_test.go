package server

// BreakOff makes Init call step after each thing that lasts, and end there if it returns an error, as a crash would.
func (o *Options) BreakOff(step func() error) { o.step = step }

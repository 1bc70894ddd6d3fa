package dir

// Name makes all temporary files have names, as where the system knows no others.
func (d *Driver) Name() *Driver {
	d.named.Store(true)
	return d
}

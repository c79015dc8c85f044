cdef int slot_bytes(const unsigned char* p, Py_ssize_t start, Py_ssize_t end) noexcept nogil

cdef unsigned long long crc_bytes(
    const unsigned char* p, Py_ssize_t start, Py_ssize_t end, unsigned long long crc
) noexcept nogil
